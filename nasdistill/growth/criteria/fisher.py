"""Channels that the loss depends on least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from nasdistill.growth.criteria import CRITERIA, Criterion

if TYPE_CHECKING:
    import torch

    from nasdistill.growth.student import Student
    from nasdistill.models.channels import ChannelGroup


@CRITERIA.register("fisher")
class Fisher(Criterion):
    """Fisher pruning: how much the loss is expected to change without the channel."""

    source: ClassVar[str] = (
        "Theis et al. 2018, Faster gaze prediction with dense networks and Fisher pruning, section 2.2"
    )
    measures: ClassVar[bool] = True

    def scores(self, student: Student, groups: Sequence[ChannelGroup]) -> dict[str, torch.Tensor]:
        from nasdistill.growth.importance import group_importance

        return group_importance(student.network, groups, student.batches, student.engine)
