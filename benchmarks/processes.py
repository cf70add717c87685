"""Two processes beside one, with the same batches: how far their numbers lie apart, and how much faster they are.

    python -m benchmarks.processes

The numbers come from one recipe, run with one process, with two, with two that do not share the statistics of batch
norm, and, as a control, with one process that rounds in other ways: with two threads, with another order of the values
in memory, with both. Small learning rates leave a rounding error small; usual ones make it grow, wherever it comes
from. The rates are those of `fit` on images of 32x32, all rivals by turns; each process has a thread of its own. Two
strangers, who train a network each and tell each other nothing, show what the cores allow.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from benchmarks.common import Comparison, Turn, apart, arguments, compare, machine, show, timed
from benchmarks.images import CLASSES, SHAPE
from benchmarks.training import BATCH, ours
from nasdistill.models.base import MODELS
from nasdistill.training import processes
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.tasks import Supervised

RECIPE = """\
name: processes
seed: 0
data: {name: digits, limit: 160, augmentations: [{name: crop, padding: 1}, flip]}
engine: {accelerator: cpu, precision: "32"}
stages:
  - name: search
    uses: search
    with: {space: darts-tiny, strategy: {name: darts, batch_size: 32, epochs: 2, lr: 0.001, lr_end: 0.0001}}
  - {name: train, uses: train, with: {model: wrn-10-1, batch_size: 32, epochs: 2, optimizer: {name: sgd, lr: 0.01}}}
  - name: distil
    uses: distill
    with:
      student: wrn-10-1
      teacher: train
      batch_size: 32
      epochs: 2
      optimizer: {name: sgd, lr: 0.01}
      objectives: [kd, {name: attention, beta: 100}]
  - name: zero-shot
    uses: zero-shot
    with:
      student: wrn-10-1
      teacher: train
      pseudo_batches: 8
      batch_size: 32
      student_steps: 2
      watch_every: 4
      optimizer: {name: sgd, lr: 0.001}
      generator_optimizer: {name: sgd, lr: 0.001}
      generator: {name: convolutional, latents: 8, channels: 8}
  - name: born-again
    uses: born-again
    with: {model: wrn-10-1, generations: 1, batch_size: 32, epochs: 2, optimizer: {name: sgd, lr: 0.01}}
"""
USUAL = [
    "stages.search.strategy.lr=0.01",
    "stages.train.optimizer.lr=0.1",
    "stages.distil.optimizer.lr=0.1",
    "stages.zero-shot.optimizer.lr=0.01",
    "stages.zero-shot.generator_optimizer.lr=0.01",
    "stages.born-again.optimizer.lr=0.1",
]
"""Ten times the recipe's learning rates."""
SHOWN = {
    "search": "search",
    "train": "train",
    "distil": "distil",
    "zero-shot": "zero-shot",
    "born-again-1": "born-again",
}
ONE, ROUNDED, TWO, OWN = "one process", "one process, other roundings", "two processes", "two, each its own statistics"
BY_GLOO, STRANGERS = "two processes, by gloo alone", "two strangers"
MESSAGES, NUMBERS = 26, 65
"""Of synchronised batch norms in a step of WRN-16-1, and what one tells: 32 means, 32 variances, a count."""
LAYOUT = "engine.channels_last=false"
RUNS: dict[str, list[tuple[int, list[str]]]] = {
    ONE: [(1, [])],
    ROUNDED: [(2, []), (1, [LAYOUT]), (2, [LAYOUT])],
    TWO: [(1, ["--devices", "2"])],
    OWN: [(1, ["--devices", "2", "engine.sync_batch_norm=false"])],
}
"""Threads and options of each run."""

Difference = tuple[float, float]
"""The largest one of weights, -1 where the stage has none, and of losses and architecture weights."""


def differences(overrides: Sequence[str]) -> dict[str, dict[str, Difference]]:
    """By run but the first, by stage: how far it lies from the first, at most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "processes.yaml").write_text(RECIPE)
        for run, ways in RUNS.items():
            for number, (threads, options) in enumerate(ways):
                out = str(folder / run / str(number))
                command = [sys.executable, "-m", "nasdistill", "run", "processes.yaml", "--out", out, "--quiet"]
                environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
                subprocess.run(
                    [*command, *options, *overrides], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
                )
        first = folder / ONE / "0" / "stages"
        return {
            run: {
                shown: _largest(
                    _difference(first / stage, folder / run / str(number) / "stages" / stage)
                    for number in range(len(RUNS[run]))
                )
                for stage, shown in SHOWN.items()
            }
            for run in list(RUNS)[1:]
        }


def _difference(one: Path, other: Path) -> Difference:
    weights = -1.0
    if (one / "weights.safetensors").is_file():
        ours, theirs = (load_file(folder / "weights.safetensors") for folder in (one, other))
        weights = max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)
    curves, others = (json.loads((folder / "history.json").read_text())["curves"] for folder in (one, other))
    counts = ("accuracy", "skips", "answers")
    told = [name for name in curves if not any(word in name for word in counts)]
    pairs = [pair for name in told for pair in zip(curves[name], others[name], strict=True)]
    return weights, max(abs(mine[1] - its[1]) for mine, its in pairs)


def _largest(differences: Iterable[Difference]) -> Difference:
    weights, losses = zip(*differences, strict=True)
    return max(weights), max(losses)


def trainer(model: str, threads: int, run: str, _options: argparse.Namespace) -> Turn:
    """Training in this process, or in its share of the work where the surroundings say that it has company."""
    engine = _engine(run)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return ours(Supervised(MODELS.parse(model).build(SHAPE, CLASSES)), engine)


def messenger(run: str, _options: argparse.Namespace) -> Turn:
    """A step's messages and nothing else."""
    _engine(run)
    numbers = torch.zeros(NUMBERS)
    return timed(lambda: [processes.all_gather(numbers) for _ in range(MESSAGES)])


def _engine(run: str) -> Engine:
    if run == BY_GLOO:
        processes._neighbours = lambda: None
    return Engine(EngineSettings(accelerator="cpu", sync_batch_norm=run != OWN))


@contextlib.contextmanager
def alone(
    rival: Callable[[int], Callable[[argparse.Namespace], Turn]], options: argparse.Namespace
) -> Iterator[dict[str, Turn]]:
    """One process, with one thread or a thread for each core; `rival` gives what `apart` takes."""
    with contextlib.ExitStack() as both:
        yield {
            f"{ONE}, {threads} thread{'s' * (threads > 1)}": both.enter_context(apart(rival(threads), options))
            for threads in (1, 2)
        }


@contextlib.contextmanager
def pair(
    rival: Callable[[argparse.Namespace], Turn], options: argparse.Namespace, acquainted: bool = True
) -> Iterator[Turn]:
    """Two processes at the same time, each a rival as of `apart`; a turn takes as long as the slower one.

    Args:
        acquainted: they share each step; else each does half of the steps by itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    company = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    with contextlib.ExitStack() as both, ThreadPoolExecutor(2) as callers:
        turns = []
        for rank in range(2):
            if acquainted:
                os.environ.update(company, LOCAL_RANK=str(rank))  # which the process inherits
            turns.append(both.enter_context(apart(rival, options)))
            for name in (*company, "LOCAL_RANK") if acquainted else ():
                del os.environ[name]
        yield lambda steps: max(callers.map(lambda turn: turn(steps if acquainted else steps // 2), turns))


def rates(model: str, options: argparse.Namespace) -> Comparison:
    """Images per second of one process with a thread for each core or one, and of two."""
    with contextlib.ExitStack() as all_rivals:
        ones = all_rivals.enter_context(alone(lambda threads: functools.partial(trainer, model, threads, ONE), options))
        twos = {
            run: all_rivals.enter_context(
                pair(functools.partial(trainer, model, 1, run), options, acquainted=run != STRANGERS)
            )
            for run in (BY_GLOO, TWO, OWN, STRANGERS)
        }
        return compare(
            f"training {model}, batch {BATCH} in all",
            ones | twos,
            work=BATCH,
            baseline=next(iter(ones)),
            options=options,
        )


def messages(options: argparse.Namespace) -> Comparison:
    """How often two processes can tell each other the statistics of a batch norm."""
    with contextlib.ExitStack() as all_rivals:
        rivals = {
            run: all_rivals.enter_context(pair(functools.partial(messenger, run), options)) for run in (BY_GLOO, TWO)
        }
        title = f"messages of {NUMBERS} numbers"
        return compare(title, rivals, work=MESSAGES, baseline=BY_GLOO, unit="messages/s", options=options)


def main() -> None:
    parser = arguments("two processes beside one")
    parser.add_argument("--models", nargs="+", default=["wrn-16-1", "wrn-16-2"], help="models to train")
    parser.add_argument("--only", choices=("numbers", "rates"), help="half of it")
    parser.set_defaults(rounds=3)
    options = parser.parse_args()
    apart_by = {}
    if options.only != "rates":
        apart_by = {"small learning rates": differences([]), "ten times as large": differences(USUAL)}
    compared = []
    if options.only != "numbers":
        compared = [messages(options), *(rates(model, options) for model in options.models)]
    if options.json:
        plain = [comparison.plain() for comparison in compared]
        print(json.dumps({"machine": machine(), "differences": apart_by, "comparisons": plain}, indent=2))
        return
    for setting, runs in apart_by.items():
        table = Table("", *(f"{run}: {what}" for run in runs for what in ("weights", "losses")))
        table.title, table.title_justify = f"largest difference from {ONE}, {setting}", "left"
        for stage in SHOWN.values():
            table.add_row(
                stage, *("-" if value < 0 else f"{value:.1e}" for run in runs.values() for value in run[stage])
            )
        Console(width=140).print(table)
    show(compared, as_json=False)


if __name__ == "__main__":
    main()
