"""Growing at random: the control that shows whether importance matters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pydantic import Field

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import Target, growable, next_step, record
from nasdistill.models.base import NetworkSpec
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine
from nasdistill.training.records import Records


@GROWTH_METHODS.register("random")
class Random(GrowthMethod):
    """Takes the steps of `fisher`, each in a cell drawn at random: shows whether importance matters at all."""

    source: ClassVar[str] = "the control experiment that the comparison of growth methods needs"

    step: float = Field(0.2, gt=0, le=1, description="channels that a step adds, as a fraction of the cell's")
    widest: float = Field(4.0, gt=1, description="no cell grows beyond so many times its width in the student")

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
        generator = torch.Generator().manual_seed(seed)
        steps: list[dict[str, Any]] = []
        while True:
            order = torch.randperm(len(widest), generator=generator).tolist()
            step = next_step(spec, target, order, self.step, widest)
            if step is None:
                break
            spec = step.spec
            steps.append({"cell": step.cell, **record(spec, target)})
            if step.last:
                break
        return Grown(target.checked(spec, f"widening cells up to {self.widest:g} times"), steps)
