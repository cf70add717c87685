"""Growing by more cells of the same kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import Growable, Target, fitted, growable, record, with_options
from nasdistill.models.base import NetworkSpec
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine
from nasdistill.training.records import Records


@GROWTH_METHODS.register("depth")
class Depth(GrowthMethod):
    """Adds cells of the same widths, then changes all widths a little where that alone misses the tolerance.

    A cell more is a large step for a small network: the number of cells is the one whose size comes nearest to the
    ratio, and where that is outside the tolerance the widths of all cells are scaled alike, up or down, to meet it.
    """

    source: ClassVar[str] = "DARTS networks of 10 and of 25 cells: the same cells, stacked higher"

    def grow(
        self,
        spec: NetworkSpec,
        network: torch.nn.Module,
        batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
        engine: Engine,
        seed: int,
        checkpoints: Checkpoints,
        records: Records,
    ) -> Grown:
        target = Target.for_student(spec, self.budget, self.ratio, self.tolerance)
        cells = growable(spec).cells
        over = cells + target.passing(lambda number: deepened(spec, cells + number), start=cells)
        deeper = target.nearest([deepened(spec, over - 1), deepened(spec, over)])
        steps = [{"cells": growable(deeper).cells, **record(deeper, target)}]
        if not target.reached(deeper):
            deeper = target.checked(fitted(deeper, target), "adding cells and scaling all widths alike")
            steps.append({"cells": growable(deeper).cells, **record(deeper, target)})
        return Grown(deeper, steps)


def deepened(spec: NetworkSpec, cells: int) -> NetworkSpec:
    """`spec` with more cells; where it names the widths, each resolution's are stretched over its cells."""
    model = growable(spec)
    deeper = with_options(spec, cells=cells, widths=None)
    if model.widths is None:
        return deeper
    before, after = _resolutions(model), _resolutions(growable(deeper))
    widths: list[int] = []
    # From the last resolution backwards, as a network of fewer than three cells lacks the first ones.
    for number in range(1, len(after) + 1):
        old = before[-min(number, len(before))]
        new = after[-number]
        widths[:0] = [model.widths[old[index * len(old) // len(new)]] for index in range(len(new))]
    return with_options(deeper, widths=tuple(widths))


def _resolutions(model: Growable) -> list[range]:
    """The cells of each resolution, in order."""
    starts = sorted({0, *model.reductions()})
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], model.cells], strict=True)]
