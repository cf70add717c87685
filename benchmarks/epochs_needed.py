"""Accuracy by epoch of the stages of a run, and after how many epochs each has what one of them has in the end.

    python -m benchmarks.epochs_needed FOLDER --over fresh

Accuracies are means over the seeds, on the test images; so is what `--over` has after its last epoch.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasdistill.storage import read_json

Curves = Mapping[str, Sequence[Mapping[int, float]]]
"""By stage, for each seed the accuracy after so many epochs."""


def curves_of(folder: Path) -> Curves:
    found: dict[str, list[dict[int, float]]] = {}
    for history in sorted(folder.glob("stages/*/history.json")):
        stage = history.parent.name.partition("-seed-")[0]
        points = read_json(history)["curves"]["test/accuracy"]
        found.setdefault(stage, []).append({int(epoch): accuracy for epoch, accuracy in points})
    return found


def needed(curve: Mapping[int, float], accuracy: float) -> str:
    """The first epoch of at least that accuracy, in words."""
    return next((str(epoch) for epoch, value in sorted(curve.items()) if value >= accuracy), "never")


def main() -> None:
    parser = argparse.ArgumentParser(description="epochs that the stages of a run need")
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("--over", required=True, help="stage whose last accuracy is to be reached")
    options = parser.parse_args()
    curves = curves_of(options.folder)
    if options.over not in curves:
        parser.error(f"the run has no curve of {options.over!r}, only of {', '.join(curves) or 'nothing'}")
    epochs = sorted({epoch for of_seeds in curves.values() for curve in of_seeds for epoch in curve})
    table = Table("stage", *map(str, epochs), "needs, each seed", title="test accuracy after epochs, %")
    for stage, of_seeds in curves.items():
        means = [statistics.fmean(curve[epoch] for curve in of_seeds if epoch in curve) for epoch in epochs]
        goals = [curve[max(curve)] for curve in curves[options.over]]
        each = (needed(curve, goal) for curve, goal in zip(of_seeds, goals, strict=True))
        table.add_row(stage, *(f"{mean:.1f}" for mean in means), ", ".join(each))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
