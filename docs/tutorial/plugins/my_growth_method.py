"""A growth method: the last cells, which see the largest part of the image, grow first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pydantic import Field

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import Target, growable, next_step, record
from nasdistill.models.base import NetworkSpec
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine
from nasdistill.training.records import Records


@GROWTH_METHODS.register("last-cells-first")
class LastCellsFirst(GrowthMethod):
    """Widens the last cell as far as allowed, then the one before it, and so on."""

    source = "the tutorial"

    widest: float = Field(2.0, gt=1, description="no cell grows beyond so many times its width in the student")

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
        widest = [int(self.widest * width) for width in growable(spec).cell_widths()]
        last_first = range(len(widest) - 1, -1, -1)
        steps: list[dict[str, Any]] = []
        while step := next_step(spec, target, last_first, 0.25, widest):
            spec = step.spec
            steps.append({"cell": step.cell, **record(spec, target)})
            if step.last:
                break
        return Grown(target.checked(spec, "widening the last cells"), steps)
