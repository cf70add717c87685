"""What a swept value is worth: paired differences of a sweep's test accuracies, seed by seed, and its rows as CSV.

    python -m benchmarks.paired_points FOLDER --key stages.arch.method [--csv FILE]

Points that differ in the key alone are paired. Beside each difference stands that of the means over all such points: of
each seed one number, so that seeds remain what is drawn.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nasdistill.report.points import in_words, value_in_words
from nasdistill.report.results import load_run
from nasdistill.report.rows import write_rows
from nasdistill.report.summaries import COUNTING, Difference, paired_difference
from nasdistill.report.words import interval

Rows = list[dict[str, Any]]
BySeed = Mapping[int, float]
ALL = "mean over these"


def rows_of(folder: Path) -> Rows:
    """The rows of a run that have an accuracy."""
    rows: Rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return [row for row in rows if row.get("accuracy") is not None]


def differences(rows: Rows, stage: str, key: str) -> Iterator[tuple[str, str, str, Difference]]:
    """The point without the key, two values of the key, and by how much the first is over the second, in points."""
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["stage"] == stage and key in row["point"]:
            rest = in_words({name: value for name, value in row["point"].items() if name != key})
            counting = next(row["accuracy"][kind] for kind in COUNTING if kind in row["accuracy"])
            found[rest][value_in_words(row["point"][key])][row["seed"]] = counting
    values = list(dict.fromkeys(value for by_value in found.values() for value in by_value))
    for value, other in combinations(values, 2):
        both = [(rest, by[value], by[other]) for rest, by in found.items() if value in by and other in by]
        for rest, of_value, of_other in both:
            yield from _told(rest, value, other, of_value, of_other)
        if len(both) > 1:
            yield from _told(ALL, value, other, _means(by for _, by, _ in both), _means(by for _, _, by in both))


def _told(rest: str, value: str, other: str, a: BySeed, b: BySeed) -> Iterator[tuple[str, str, str, Difference]]:
    difference = paired_difference(a, b)
    if difference is not None:
        yield rest, value, other, difference


def _means(points: Iterable[BySeed]) -> dict[int, float]:
    """Of each seed that all points have."""
    each = list(points)
    shared = set(each[0]).intersection(*each[1:])
    return {seed: statistics.fmean(by_seed[seed] for by_seed in each) for seed in sorted(shared)}


def main() -> None:
    parser = argparse.ArgumentParser(description="paired differences of a sweep")
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("--key", default="stages.arch.method", help="the swept key whose values are compared")
    parser.add_argument("--stages", nargs="+", default=["student", "teacher"], help="whose accuracies")
    parser.add_argument("--csv", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = rows_of(options.folder)
    if options.csv is not None:
        write_rows([load_run(options.folder)], options.csv)
    console = Console()
    for stage in options.stages:
        table = Table(f"{stage}, at", "value", "over", "points", "95 %", "seeds", title=f"{options.key}: {stage}")
        for rest, value, other, found in differences(rows, stage, options.key):
            table.add_row(rest, value, other, f"{found.mean:+.2f}", interval(found), str(found.pairs))
        console.print(table)


if __name__ == "__main__":
    main()
