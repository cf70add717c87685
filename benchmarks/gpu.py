"""All that waits for a GPU, in pieces that each end in less than ten minutes, the most valuable first.

    python -m benchmarks.gpu RESULTS --data DATA
    python -m benchmarks.gpu RESULTS --dry

RESULTS gets a line of JSON for each piece that ended, in `rows.jsonl`, and the folders of recipes that are not done, in
parts of at most 15 MiB. Given again, here or on another machine, the command goes on with what is not done. `--dry`
does the same with tiny sizes and no data, on the processor.

Nothing is measured here: each piece is a benchmark, a recipe or a run of the tests, in a process of its own.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.parts import join, split

ROOT = Path(__file__).parents[1]
ROWS = "rows.jsonl"
SAVED = 128 + signal.SIGUSR1
LEAST = 60
"""Seconds that are worth going on with a recipe."""
RESERVE = 45
"""Seconds at the end in which a recipe saves and its folder is packed."""
FOLDERS = {"cifar10": "cifar-10-batches-py", "mnist": "MNIST"}
"""What lies in the folder of data, by data set."""
TURNS = ("--rounds", "1", "--steps", "1", "--warmup", "1")
DIGITS = ("data={name: digits, limit: 60}", "seed=null", "seeds=[0]")


@dataclass(frozen=True)
class Piece:
    """Something to do on a GPU.

    Attributes:
        name: of the piece.
        minutes: that it takes on one GPU, as estimated before anybody had one.
        words: the module and what it is given.
        small: the same in the dry form; nothing where that would tell nothing new.
        data: the data set that it needs; such a piece is a recipe, which is stopped when the time is over, and goes on.
    """

    name: str
    minutes: float
    words: tuple[str, ...]
    small: tuple[str, ...] = ()
    data: str | None = None


def benchmark(name: str, minutes: float, *small: str) -> Piece:
    words = (f"benchmarks.{name}", "--json")
    return Piece(name, minutes, words, (*words, *TURNS, *small))


def recipe(name: str, minutes: float, data: str, *small: str, seed: int = 0) -> Piece:
    """A recipe as published; its dry form is on a few digits. That of another seed than 0 would tell nothing new."""
    words = ("nasdistill", "run", name, "--out", "OUT")
    published = (*words, "data.root=DATA", "seed=null", f"seeds=[{seed}]")
    return Piece(f"{name}, seed {seed}", minutes, published, (*words, *DIGITS, *small) if seed == 0 else (), data)


TESTS = ("pytest", "-m", "gpu", "-p", "no:cacheprovider")
PAIR = ("--teacher", "wrn-10-1", "--student", "wrn-10-1")
TINY = ("stages.teacher.model=wrn-10-1", "stages.alone.model=wrn-10-1", "stages.student.student=wrn-10-1")
PAIRS = ("16-2-to-16-1", "40-1-to-16-1", "40-2-to-16-1", "40-1-to-16-2", "40-2-to-16-2", "40-2-to-40-1")
FEW_SHOT = f"stages.{','.join(f'kd-at-{pair}' for pair in PAIRS)}.images_per_class=1"
CELLS = "{name: darts-tiny, nodes: 2, search_channels: 4, search_cells: 3}"
SEARCH = ("nasdistill", "search", "--strategy", "darts", "--out", "OUT")
PIECES = (
    Piece("tests", 3, (*TESTS, "tests"), (*TESTS, "tests/zero_shot/test_waiting.py")),
    benchmark("training", 2, "--models", "wrn-10-1"),
    benchmark("zero_shot", 3, *PAIR, "--batch", "8", "--student-steps", "1"),
    benchmark("distill", 2, *PAIR),
    benchmark("search", 3, "--space", CELLS),
    benchmark("graphs", 5, "--models", "wrn-10-1", "--backend", "eager"),
    benchmark("compare", 2, *PAIR, "--images", "2", "--path-steps", "2"),
    recipe("kd-at-cifar10-corrected", 40, "cifar10", *TINY, "stages.teacher,alone,student.epochs=1"),
    Piece(
        "darts on cifar10",
        60,
        (*SEARCH, "--space", "darts", "--data", "cifar10", "--data-root", "DATA"),
        (*SEARCH, "--space", CELLS, "--data", "{name: digits, limit: 60}", "--epochs", "1"),
        "cifar10",
    ),
    recipe("zero-shot-mnist-published", 60, "mnist", "--dry-run"),
    recipe("born-again-cifar10", 50, "cifar10", "--dry-run"),
    *(recipe("kd-at-cifar10-corrected", 40, "cifar10", seed=seed) for seed in (1, 2)),
    recipe("zero-shot-pairs", 1000, "cifar10", FEW_SHOT, "--dry-run"),
    recipe("bespoke-teachers", 1000, "cifar10", "--dry-run"),
)


def missing() -> list[str]:
    """What `setup.py` requires on every machine and is not installed here."""
    setup = ast.parse((ROOT / "setup.py").read_text())
    (required,) = [
        node.value for node in ast.walk(setup) if isinstance(node, ast.keyword) and node.arg == "install_requires"
    ]
    found = []
    for text in ast.literal_eval(required):
        try:
            importlib.metadata.version(re.match(r"[\w-]+", text)[0])  # type: ignore[index]
        except importlib.metadata.PackageNotFoundError:
            if ";" not in text:
                found.append(text)
    return found


class Session:
    """The pieces of one call.

    Args:
        results: the folder that travels.
        runs: the folders of recipes while they run.
    """

    def __init__(self, options: argparse.Namespace, runs: Path) -> None:
        from benchmarks.common import machine
        from nasdistill import __version__
        from nasdistill.recipes.provenance import git_commit

        self.options = options
        self.runs = runs
        self.until = time.monotonic() + 60 * options.minutes - RESERVE
        self.about = {
            "commit": options.commit or git_commit(),
            "device": machine(),
            "versions": {"nasdistill": __version__, "python": platform.python_version()},
            "dry": options.dry,
        }

    def do(self, piece: Piece) -> None:
        """Do a piece as far as the time goes, and write its row if it ended."""
        dry, data = self.options.dry, self.options.data
        left = self.until - time.monotonic()
        if not dry and left < (LEAST if piece.data else 60 * piece.minutes):
            print(f"{piece.name}: not begun, as {max(0, left):.0f} s are left of this call", flush=True)
            return
        if not dry and piece.data and not (data / FOLDERS[piece.data]).is_dir():
            print(f"{piece.name}: not begun, as there is no {FOLDERS[piece.data]} in {data}", flush=True)
            return
        out = self.runs / re.sub(r"\W+", "-", piece.name)
        places = {"OUT": str(out), "DATA": str(data)}
        words = [
            re.sub("OUT|DATA", lambda found: places[found[0]], word) for word in (piece.small if dry else piece.words)
        ]
        print(f"{piece.name}: python -m {shlex.join(words)}", flush=True)
        began = time.monotonic()
        status, told, problem = _run(words, None if dry else left)
        seconds = round(time.monotonic() - began, 1)
        *before, last = ["", "", *f"{told}{problem}".strip().splitlines()]
        if status == SAVED:
            print(f"{piece.name}: saved after {seconds:.0f} s, goes on next time ({before[-1]})", flush=True)
            return
        row = {
            "piece": piece.name,
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **self.about,
            "seconds": seconds,
            "numbers": numbers_of(told, out / "results.json"),
            "failed": f"status {status}: {last}" if status else None,
        }
        with (self.options.results / ROWS).open("a") as file:
            file.write(json.dumps(row) + "\n")


def _run(words: list[str], seconds: float | None) -> tuple[int, str, str]:
    """Run a module until the time is over, when it is asked to save; its status, what it printed, and why it failed."""
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as problem:
        with subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, stdout=printed, stderr=problem) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGUSR1)
        for file in (printed, problem):
            file.seek(0)
        return process.returncode, printed.read(), problem.read() if process.returncode else ""


def numbers_of(told: str, results: Path) -> dict[str, float]:
    """What a piece found, by what it is: from a benchmark's JSON, the summary of tests, or the results of a run."""
    if results.is_file():
        found = {}
        for row in json.loads(results.read_text()):
            if accuracy := row.get("accuracy"):
                found |= {f"{row['stage']}: {kind}, % of test images": value for kind, value in accuracy.items()}
            found[f"{row['stage']}: seconds"] = row["seconds"]
        return found
    if told.startswith("{"):
        return _of_benchmark(json.loads(told))
    return {
        f"tests {what}": float(count) for count, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", told)
    }


def _of_benchmark(told: dict[str, Any]) -> dict[str, float]:
    found = {}
    for item in told.get("comparisons", ()):
        for rival, each in item["rivals"].items():
            found[f"{item['title']}: {rival}, {item['unit']}"] = each["rate"]
            found[f"{item['title']}: {rival}, x {item['baseline']}"] = each["ratio"]
    for rival, rounds in told.get("milliseconds", {}).items():
        found[f"{rival}, ms per pseudo-batch"] = statistics.median(sum(parts.values()) for parts in rounds)
    return found


def rows_in(results: Path) -> list[dict[str, Any]]:
    """The latest row of each piece, failures last."""
    if not (results / ROWS).is_file():
        return []
    rows = {(row["piece"], row["dry"]): row for row in map(json.loads, (results / ROWS).read_text().splitlines())}
    return sorted(rows.values(), key=lambda row: bool(row["failed"]))


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line for each number."""
    from rich.console import Console
    from rich.table import Table

    table = Table("piece", "what", "value", "s")
    for row in rows:
        lines = [(what, f"{value:.4g}") for what, value in row["numbers"].items()]
        lines += [(row["failed"], "")] if row["failed"] or not lines else []
        for number, (what, value) in enumerate(lines):
            table.add_row(
                *((row["piece"], what, value, f"{row['seconds']:.0f}") if number == 0 else ("", what, value, ""))
            )
    Console(width=200).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="all that waits for a GPU, piece by piece")
    parser.add_argument("results", type=Path, help="folder of what came out, which may travel")
    parser.add_argument("--minutes", type=float, default=9, help="to stop after (default 9)")
    parser.add_argument(
        "--only", nargs="+", choices=[piece.name for piece in PIECES], help="these pieces", metavar="PIECE"
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (default data)")
    parser.add_argument("--commit", help="that is measured, where the files are no repository")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, without data")
    options = parser.parse_args()
    if lacking := missing():
        print(f"not installed here: {', '.join(lacking)}; a piece that needs it fails", flush=True)
    try:
        from benchmarks.common import machine
    except ModuleNotFoundError as error:
        sys.exit(f"nothing can be done without {error.name}; docs/how-to/gpu.md says how to bring it")
    if not options.dry and machine()["accelerator"] is None:
        sys.exit("torch finds no GPU here, and what a processor measures would count as done; --dry needs none")
    options.results, options.data = options.results.resolve(), options.data.resolve()
    options.results.mkdir(parents=True, exist_ok=True)
    before = [row for row in rows_in(options.results) if row["dry"] == options.dry]
    failed = {row["piece"] for row in before if row["failed"]}
    done = {row["piece"] for row in before} - failed
    with tempfile.TemporaryDirectory() as folder:
        try:
            join(options.results, Path(folder))
        except FileNotFoundError as error:
            sys.exit(str(error))
        runs = Path(folder) / ("dry" if options.dry else "runs")
        runs.mkdir(exist_ok=True)
        session = Session(options, runs)
        try:
            # What failed may fail again only once all of its time is over, so it comes last.
            for piece in sorted(PIECES, key=lambda each: each.name in failed):
                wanted = options.only is None or piece.name in options.only
                if wanted and piece.name not in done and (piece.small or not options.dry):
                    session.do(piece)
        finally:
            if any(runs.iterdir()):
                split(runs, options.results)
    rows = rows_in(options.results)
    show(rows)
    sys.exit(any(row["failed"] for row in rows))


if __name__ == "__main__":
    main()
