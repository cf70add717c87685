"""Pruning criteria: which channels of a network can be spared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from nasdistill.growth.student import Student
    from nasdistill.models.channels import ChannelGroup


Per = Literal["channel", "parameter", "multiply-add"]


class Criterion(Component):
    """Base of all pruning criteria."""

    measures: ClassVar[bool] = False
    """Whether it looks at images."""

    per: Per = Field(
        "parameter",
        description="channels of different groups are compared by their score, or by it over what one costs",
    )

    def scores(self, student: Student, groups: Sequence[ChannelGroup]) -> Mapping[str, torch.Tensor]:
        """How much each channel matters, by the names of groups, [width]; the lowest leave first.

        Args:
            student: spec and network as shrunk so far; the network must not be changed.
            groups: those that can shrink.
        """
        raise NotImplementedError(type(self).__name__)


CRITERIA: Registry[Criterion] = Registry("criteria", Criterion, "nasdistill.growth.criteria")
