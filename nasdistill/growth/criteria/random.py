"""Any channels, the control experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.growth.criteria import CRITERIA, Criterion, Per

if TYPE_CHECKING:
    import torch

    from nasdistill.growth.student import Student
    from nasdistill.models.channels import ChannelGroup


@CRITERIA.register("random")
class Random(Criterion):
    """A number between 0 and 1, drawn for each channel: a control for the effect of importance."""

    source: ClassVar[str] = "the control experiment that the comparison of criteria needs"

    per: Per = Field("channel", description="channels are compared by their number, or by it over what one costs")

    def scores(self, student: Student, groups: Sequence[ChannelGroup]) -> dict[str, torch.Tensor]:
        import torch

        generator = torch.Generator().manual_seed(student.seed)
        return {group.name: torch.rand(group.width, generator=generator) for group in groups}
