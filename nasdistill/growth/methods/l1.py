"""Growing where weights are largest, a control experiment."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.methods.fisher import Per, scores_of_units
from nasdistill.growth.stepwise import GrowthRule
from nasdistill.growth.student import Student


@GROWTH_METHODS.register("l1")
class L1(GrowthRule):
    """Takes the steps of `fisher` in the unit whose filters have the largest L1 norms: importance without the loss.

    A copy has the norm of its source, so that a unit that grew goes on growing, up to `widest`.
    """

    source: ClassVar[str] = (
        "norms of Li et al. 2017, Pruning filters for efficient ConvNets (arXiv:1608.08710), section 3.1"
    )
    measures: ClassVar[bool] = False

    per: Per = Field(
        "channel",
        description="a unit's score: the sum over its channels, their mean, that mean over what one more channel costs "
        "in parameters or multiply-adds, or the score of its most important channel",
    )

    def scores(self, student: Student) -> dict[str, float]:
        import torch

        from nasdistill.growth.coupling import filters_of, groups_of_units

        norms = {
            unit: torch.cat([filters_of(student.network, group).abs().sum(dim=1) for group in groups])
            for unit, groups in groups_of_units(student.spec).items()
        }
        return scores_of_units(student.spec, norms, self.per)
