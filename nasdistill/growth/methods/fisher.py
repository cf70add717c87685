"""Growing where the loss depends most on the channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.plan import Read, channel_costs
from nasdistill.growth.stepwise import GrowthRule
from nasdistill.growth.student import Student
from nasdistill.models.base import NetworkSpec
from nasdistill.models.scalable import Measure

if TYPE_CHECKING:
    import torch

Per = Literal["unit", "channel", "parameter", "multiply-add", "top-channel"]
COST: dict[Per, Measure] = {"parameter": "params", "multiply-add": "flops"}


@GROWTH_METHODS.register("fisher")
class Fisher(GrowthRule):
    """Widens the unit whose channels have the highest Fisher scores by a step, scores again, and so on.

    A unit is a cell of a DARTS network. Two copies of a channel share its gradient and so have half its score
    together: a unit that grew r times is left with about 1/r of its score, so growth moves on to others until all
    scores are alike.
    """

    source: ClassVar[str] = "scores of Theis et al. 2018, Fisher pruning; growth by Net2Wider, Chen et al. 2016"

    read: Read = Field(
        "output",
        description="where channels are scored: at the unit's output, or after each batch norm that they pass",
    )
    per: Per = Field(
        "unit",
        description="a unit's score: the sum over its channels, their mean, that mean over what one more channel costs "
        "in parameters or multiply-adds, or the score of its most important channel",
    )

    def scores(self, student: Student) -> dict[str, float]:
        from nasdistill.growth.importance import unit_importance

        spec = student.spec
        importance = unit_importance(spec, student.network, self.read, student.batches, student.engine)
        return scores_of_units(spec, importance, self.per)


def scores_of_units(spec: NetworkSpec, importance: Mapping[str, torch.Tensor], per: Per) -> dict[str, float]:
    """A score for each unit of those of its channels."""
    if per == "unit":
        return {unit: channels.sum().item() for unit, channels in importance.items()}
    if per == "top-channel":
        return {unit: channels.max().item() for unit, channels in importance.items()}
    means = {unit: channels.mean().item() for unit, channels in importance.items()}
    if per == "channel":
        return means
    costs = channel_costs(spec, COST[per])
    return {unit: mean / costs[unit] for unit, mean in means.items()}
