"""What all benchmarks share: fair timing of rivals in one run, and a table of rates with ratios."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from nasdistill.depthwise import convolution
from nasdistill.report.summaries import paired_difference
from nasdistill.report.words import interval

Turn = Callable[[int], float]
"""Does so many steps and returns the seconds that they took."""
Taken = TypeVar("Taken")
"""What a turn returns: seconds, or seconds by the part that took them."""


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5, help="times that each rival has its turn (default 5)")
    parser.add_argument("--steps", type=int, default=10, help="steps of a turn (default 10)")
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps of each rival at the start (default 3)")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; default: as torch decides")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def offer_processor_time(parser: argparse.ArgumentParser) -> None:
    """Another option, for a benchmark that times its turns by `clock`."""
    parser.add_argument(
        "--processor-time",
        dest="clock",
        action="store_const",
        const=time.process_time,
        default=time.perf_counter,
        help="count the processor's time instead of the clock's: for a machine with other work, with --threads 1",
    )


@dataclass
class Comparison:
    """Rates of rivals that do the same work.

    Attributes:
        title: what is measured.
        unit: of the rates, e.g. "images/s".
        rates: rival to its rate in each round.
        baseline: the rival that ratios refer to.
    """

    title: str
    unit: str
    baseline: str
    rates: dict[str, list[float]] = field(default_factory=dict)

    def rate(self, rival: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.rates[rival])

    def ratio(self, rival: str) -> float:
        """The median of the ratios within each round, so that a machine that slows down slows down both."""
        pairs = zip(self.rates[rival], self.rates[self.baseline], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def plain(self) -> dict[str, Any]:
        rivals = {
            rival: {"rate": self.rate(rival), "ratio": self.ratio(rival), "rounds": rates}
            for rival, rates in self.rates.items()
        }
        return {"title": self.title, "unit": self.unit, "baseline": self.baseline, "rivals": rivals}


def compare(
    title: str,
    rivals: Mapping[str, Turn],
    *,
    work: float,
    baseline: str,
    unit: str = "images/s",
    options: argparse.Namespace,
) -> Comparison:
    """Time rivals by turns, round after round, so that a change of the machine's load meets them all.

    Args:
        rivals: name to its turn, e.g. `timed(step)`.
        work: units of work in a step, e.g. the batch size for images/s.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for turn in rivals.values():
        turn(options.warmup)
    rates: dict[str, list[float]] = {rival: [] for rival in rivals}
    for _ in range(options.rounds):
        for rival, turn in rivals.items():
            rates[rival].append(work * options.steps / turn(options.steps))
    return Comparison(title, unit, baseline, rates)


def timed(step: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Turn:
    """The turn of a rival that is a function of one step: the time to the end of what it started on a device."""

    def turn(steps: int) -> float:
        synchronise()
        start = clock()
        for _ in range(steps):
            step()
        synchronise()
        return clock() - start

    return turn


@contextlib.contextmanager
def apart(
    rival: Callable[[argparse.Namespace], Callable[[int], Taken]], options: argparse.Namespace
) -> Iterator[Callable[[int], Taken]]:
    """The turn of a rival in a process of its own, so that what it sets for its process does not reach the others.

    Args:
        rival: makes the turn; a function of a module, or a partial one.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_take_turns, args=(rival, options, there), daemon=True)
    process.start()
    there.close()

    def turn(steps: int) -> Taken:
        here.send(steps)
        taken: Taken = here.recv()
        return taken

    try:
        yield turn
    finally:
        here.close()
        process.join()


def _take_turns(
    rival: Callable[[argparse.Namespace], Callable[[int], Taken]], options: argparse.Namespace, there: Connection
) -> None:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    turn = rival(options)
    with contextlib.suppress(EOFError):
        while True:
            there.send(turn(there.recv()))


@contextlib.contextmanager
def layers_by_torch() -> Iterator[None]:
    """Within this block depthwise and separable convolutions are torch's own, not ours."""
    ours = convolution.is_computable
    convolution.is_computable = lambda _inputs, _weight: False
    try:
        yield
    finally:
        convolution.is_computable = ours


def by_torch(turn: Turn) -> Turn:
    """A turn of torch's own layers."""

    def without_ours(steps: int) -> float:
        with layers_by_torch():
            return turn(steps)

    return without_ours


def of_accuracies(title: str, found: Mapping[str, Mapping[int, float]], baseline: str) -> Table:
    """Test accuracies in percent by seed, their means, and what they are over those of a rival."""
    table = Table("", "test accuracy, %", "each seed", f"over {baseline}, 95 %", title=title, title_justify="left")
    for name, values in found.items():
        spread = f" ± {statistics.stdev(values.values()):.2f}" if len(values) > 1 else ""
        each = ", ".join(f"{value:.2f}" for value in values.values())
        difference = paired_difference(values, found[baseline])
        over = "" if name == baseline or difference is None else f"{difference.mean:+.2f} ({interval(difference)})"
        table.add_row(name, f"{statistics.fmean(values.values()):.2f}{spread}", each, over)
    return table


def synchronise() -> None:
    """Wait for the accelerator, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """What the rates were measured on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo") as file:
        name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    return {
        "processor": name,
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


def show(comparisons: list[Comparison], as_json: bool) -> None:
    """Print the machine and a table per comparison, or all of it as JSON."""
    if as_json:
        print(json.dumps({"machine": machine(), "comparisons": [item.plain() for item in comparisons]}, indent=2))
        return
    console = Console()
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    for item in comparisons:
        table = Table("", item.unit, f"x {item.baseline}", title=item.title, title_justify="left")
        for rival in item.rates:
            table.add_row(rival, f"{item.rate(rival):.1f}", f"{item.ratio(rival):.2f}")
        console.print(table)
