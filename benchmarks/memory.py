"""Peak memory of a supernet's forward and backward pass, each rival in a process of its own.

python -m benchmarks.memory
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import resource
import sys
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from benchmarks.common import apart, layers_by_torch
from benchmarks.images import CLASSES, SHAPE
from nasdistill.search.spaces import SPACES
from nasdistill.search.spaces.darts_cells import DartsSpace
from nasdistill.search.supernet import Supernet
from tests.search.reference import PlainSupernet

RIVALS = ("plain torch", "nasdistill, layers by torch", "nasdistill")


def peak(rival: str, options: argparse.Namespace) -> Callable[[int], float]:
    """A turn that makes some passes and tells by how many gigabytes the process has grown at most."""

    def turn(passes: int) -> float:
        space = SPACES.parse(options.space)
        assert isinstance(space, DartsSpace)
        before = resident()
        layout = torch.contiguous_format if rival == RIVALS[0] else torch.channels_last
        with contextlib.nullcontext() if rival == RIVALS[2] else layers_by_torch():
            supernet = (PlainSupernet if rival == RIVALS[0] else Supernet)(space, SHAPE, CLASSES)
            supernet.to(memory_format=layout)
            images = torch.randn(options.batch_size, *SHAPE).to(memory_format=layout)
            labels = torch.randint(0, CLASSES, (options.batch_size,))
            for _ in range(passes):
                supernet.zero_grad()
                torch.autograd.backward(functional.cross_entropy(supernet(images), labels))
        return resident() - before

    return turn


def resident() -> float:
    """The most memory that this process has had, in gigabytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description="peak memory of a supernet's pass")
    parser.add_argument("--space", default="darts", help="search space of DARTS cells (default darts)")
    parser.add_argument("--batch-size", type=int, default=64, help="images (default 64)")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; default: as torch decides")
    options = parser.parse_args()
    table = Table("", "GB", title=f"supernet {options.space}, batch {options.batch_size}", title_justify="left")
    for rival in RIVALS:
        with apart(functools.partial(peak, rival), options) as turn:
            table.add_row(rival, f"{turn(2):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
