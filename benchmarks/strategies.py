"""Speed and peak memory of the successors of DARTS beside dense DARTS, each in a process of its own, by turns.

    python -m benchmarks.strategies

A turn is one epoch of a strategy with its own settings but for the batch size, on made-up images; building the supernet
counts for memory, not for speed. `warm_up` is left out, so that all steps are of one kind.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
from argparse import Namespace
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.common import apart, arguments
from benchmarks.images import random_data
from benchmarks.memory import resident
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.training.engine import Engine, EngineSettings

DENSE = "darts"
STRATEGIES_TIMED = (DENSE, "pc-darts", "gdas", "snas", "drnas", "beta-darts", "fair-darts", "sdarts", "random-sharing")


def searching(name: str, options: Namespace) -> Callable[[int], tuple[float, float]]:
    """A turn of so many steps that tells images/s, and by how many gigabytes the process has grown at most."""
    before = resident()
    space = SPACES.parse(options.space)
    engine = Engine(EngineSettings(accelerator="cpu", precision=options.precision))

    def turn(steps: int) -> tuple[float, float]:
        once = {"candidates": 1} if name == "random-sharing" else {"warm_up": 0.0}
        strategy = STRATEGIES.parse({"name": name, "epochs": 1, "batch_size": options.batch_size, **once})
        found = strategy.search(space, random_data(2 * steps * options.batch_size), engine, 0)
        return float(found.metrics["samples_per_second"]), resident() - before

    return turn


def measured(options: Namespace) -> dict[str, list[tuple[float, float]]]:
    """What each turn told, by strategy, the first of all left out."""
    with contextlib.ExitStack() as stack:
        turns = {
            name: stack.enter_context(apart(functools.partial(searching, name), options)) for name in options.strategies
        }
        for turn in turns.values():
            turn(options.warmup)
        rounds = [{name: turn(options.steps) for name, turn in turns.items()} for _ in range(options.rounds)]
    return {name: [each[name] for each in rounds] for name in turns}


def table_of(found: dict[str, list[tuple[float, float]]], options: Namespace) -> Table:
    table = Table(title=f"space {options.space}, batch {options.batch_size}, {options.precision}", title_justify="left")
    for heading in ("strategy", "images/s", f"of {DENSE}", "GB", f"of {DENSE}"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    rates = {name: [rate for rate, _memory in rounds] for name, rounds in found.items()}
    memory = {name: max(memory for _rate, memory in rounds) for name, rounds in found.items()}
    for name in found:
        ratios = [rate / dense for rate, dense in zip(rates[name], rates[DENSE], strict=True)]
        table.add_row(
            name,
            f"{statistics.median(rates[name]):.1f}",
            f"{statistics.median(ratios):.2f}",
            f"{memory[name]:.2f}",
            f"{memory[name] / memory[DENSE]:.2f}",
        )
    return table


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments("speed and memory of strategies on one supernet")
    parser.add_argument("--space", default="darts", help="search space of cells (default darts)")
    parser.add_argument("--batch-size", type=int, default=64, help="images of a step, of each half (default 64)")
    parser.add_argument("--precision", default="32", choices=("32", "bf16"), help="of the engine (default 32)")
    parser.add_argument(
        "--strategies", nargs="+", default=STRATEGIES_TIMED, help=f"those to time, {DENSE} among them (default: all)"
    )
    options = parser.parse_args(given)
    if DENSE not in options.strategies:
        parser.error(f"the ratios refer to {DENSE}: name it, too")
    Console().print(table_of(measured(options), options))


if __name__ == "__main__":
    main()
