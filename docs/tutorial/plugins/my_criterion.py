"""A pruning criterion: filters that lie among the others leave first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nasdistill.growth.coupling import filters_of
from nasdistill.growth.criteria import CRITERIA, Criterion
from nasdistill.growth.student import Student
from nasdistill.models.channels import ChannelGroup


@CRITERIA.register("geometric-median")
class GeometricMedian(Criterion):
    """The sum of the distances from a channel's filters to those of all others in its group."""

    source = "He et al. 2019, Filter pruning via geometric median (arXiv:1811.00250), section 3.3"

    def scores(self, student: Student, groups: Sequence[ChannelGroup]) -> dict[str, torch.Tensor]:
        filters = {group.name: filters_of(student.network, group) for group in groups}
        return {name: torch.cdist(each, each).sum(dim=1) for name, each in filters.items()}
