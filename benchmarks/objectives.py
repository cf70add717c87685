"""What each loss of `cifar100-pairs` costs: the time of a step beside KD's in one run, and what it adds to learn.

    python -m benchmarks.objectives --threads 2

A step is one of `fit`, as in `benchmarks.distill`, in batches of 64. Beside its rate stand the parameters that the loss
learns with the student, and how much more memory than with KD a process needs at its peak, each in one of its own.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import Turn, apart, arguments, compare, show
from benchmarks.distill import distillation
from benchmarks.images import random_data
from benchmarks.training import ours
from nasdistill.data.loaders import evaluation_batches
from nasdistill.distill.task import Distillation
from nasdistill.models.inspection import count_parameters
from nasdistill.recipes.sweep import axes_of
from nasdistill.training.engine import Engine, EngineSettings

BATCH = 64
RECIPE = "cifar100-pairs"
BASELINE = "kd"


def losses(names: str | None) -> dict[str, list[Any]]:
    """The objectives of each loss of the recipe, or of KD and those named, which may be objectives of their own."""
    known = {name: settings["stages.student.objectives"] for name, settings in axes_of(RECIPE)["loss"].items()}
    return known if names is None else {name: known.get(name, [name]) for name in (BASELINE, *names.split(","))}


def prepared(task: Distillation, engine: Engine, most: int) -> Turn:
    """One epoch of `fit` of at most so many steps; losses have looked at as many random images before."""
    beforehand = random_data(most * BATCH)
    engine.place(task)
    task.prepare(evaluation_batches(beforehand.train, beforehand, engine), seed=0)
    return ours(task, engine, BATCH)


def peak(name: str, options: argparse.Namespace) -> Callable[[int], float]:
    """A turn that takes some steps and tells the process's peak of memory, in megabytes."""

    def turn(steps: int) -> float:
        task = distillation(options.student, options.teacher, losses(options.losses)[name])
        prepared(task, Engine(EngineSettings(accelerator="cpu")), steps)(steps)
        # Not `getrusage`, whose peak a process inherits from the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024

    return turn


def main() -> None:
    parser = arguments("losses of distillation beside KD")
    parser.add_argument("--student", default="wrn-16-2", help="who learns (default wrn-16-2)")
    parser.add_argument("--teacher", default="wrn-40-2", help="who teaches (default wrn-40-2)")
    parser.add_argument("--losses", help="compare these alone, e.g. dkd,token (default: all of the recipe)")
    options = parser.parse_args()
    engine = Engine(EngineSettings(accelerator="cpu"))
    chosen = losses(options.losses)
    tasks = {name: distillation(options.student, options.teacher, objectives) for name, objectives in chosen.items()}
    comparison = compare(
        f"{options.teacher} to {options.student}, batch {BATCH}",
        {name: prepared(task, engine, max(options.steps, options.warmup)) for name, task in tasks.items()},
        work=BATCH,
        baseline=BASELINE,
        options=options,
    )
    show([comparison], options.json)
    peaks = {}
    for name in tasks:
        with apart(functools.partial(peak, name), options) as turn:
            peaks[name] = turn(options.steps)
    table = Table("loss", "time of a step, times kd's", "parameters it learns", "memory beside kd, MB")
    for name, task in tasks.items():
        table.add_row(
            name,
            f"{1 / comparison.ratio(name):.2f}",
            f"{count_parameters(task.learned):,}",
            f"{peaks[name] - peaks[BASELINE]:+.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
