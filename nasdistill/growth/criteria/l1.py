"""Channels of the smallest filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from nasdistill.growth.criteria import CRITERIA, Criterion

if TYPE_CHECKING:
    import torch

    from nasdistill.growth.student import Student
    from nasdistill.models.channels import ChannelGroup


@CRITERIA.register("l1")
class L1(Criterion):
    """The L1 norm of the filters that put the channel out, those of all layers of its group."""

    source: ClassVar[str] = "Li et al. 2017, Pruning filters for efficient ConvNets (arXiv:1608.08710), section 3.1"

    def scores(self, student: Student, groups: Sequence[ChannelGroup]) -> dict[str, torch.Tensor]:
        from nasdistill.growth.coupling import filters_of

        return {group.name: filters_of(student.network, group).abs().sum(dim=1) for group in groups}
