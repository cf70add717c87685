"""Growth plans: the seconds in which each method that looks at no images finds the widths, with nothing counted before.

    python -m benchmarks.growth

What `fisher` asks for before it looks at images is the check of a dry run: whether it can reach the size.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.common import arguments, machine, offer_processor_time
from benchmarks.images import CLASSES, SHAPE
from nasdistill.growth import plan
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.student import Student
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.training.engine import Engine, EngineSettings


def seconds(spec: NetworkSpec, name: str, measure: str, clock: Callable[[], float]) -> float:
    """What a plan takes; a check where the method measures."""
    method = GROWTH_METHODS.parse({"name": name, "measure": measure})
    student = Student(spec, nn.Identity(), (), Engine(EngineSettings()))
    plan._size.cache_clear()
    begun = clock()
    if method.measures:
        method.reason_to_refuse(spec)
    else:
        method.grow(student)
    return clock() - begun


def main() -> None:
    parser = arguments("growth plans")
    models = ("darts-v2-16-20", "darts-v2-36-20")
    parser.add_argument("--models", nargs="+", default=models, help=f"what grows (default {' '.join(models)})")
    offer_processor_time(parser)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    console = Console()
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    specs = {model: NetworkSpec(model=MODELS.parse(model), shape=SHAPE, classes=CLASSES) for model in options.models}
    table = Table("seconds a plan", *specs)
    for name in GROWTH_METHODS.names():
        for measure in ("params", "flops"):
            taken = [
                statistics.median(seconds(spec, name, measure, options.clock) for _ in range(options.rounds))
                for spec in specs.values()
            ]
            table.add_row(f"{name}, {measure}", *(f"{each:.2f}" for each in taken))
    console.print(table)


if __name__ == "__main__":
    main()
