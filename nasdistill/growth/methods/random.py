"""Random growth, the control experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from nasdistill.growth.methods import GROWTH_METHODS, Grown
from nasdistill.growth.plan import record, steps_to
from nasdistill.growth.stepwise import Stepwise
from nasdistill.growth.student import Student


@GROWTH_METHODS.register("random")
class Random(Stepwise):
    """Takes the steps of `fisher`, each in a randomly sampled unit: a control for the effect of importance."""

    source: ClassVar[str] = "the control experiment that the comparison of growth methods needs"

    def grow(self, student: Student) -> Grown:
        spec, target = student.spec, self.target(student.spec)
        most = self.most(spec)
        names = list(most)
        generator = torch.Generator().manual_seed(student.seed)

        def order() -> Sequence[str]:
            return [names[index] for index in torch.randperm(len(names), generator=generator).tolist()]

        steps: list[dict[str, Any]] = []
        for step in steps_to(target, spec, most, self.step, order):
            spec = step.spec
            steps.append({"unit": step.unit, **record(spec, target)})
        return Grown(target.checked(spec, self.how), steps)
