"""Edges whose operations see all channels, or a part of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.search.edges import EDGES, Edges

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.search.spaces.cells import CellSpace


@EDGES.register("dense")
class Dense(Edges):
    """All operations on all channels."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS (arXiv:1806.09055), section 2.2"
    hands_over: ClassVar[bool] = True

    def fan(self, space: CellSpace, channels: int, edges: Sequence[Sequence[str]], stride: int) -> nn.Module:
        from nasdistill.search.fan import Fan

        return Fan(space, channels, edges, stride)


@EDGES.register("partial")
class Partial(Edges):
    """All operations on a part of the channels, which are shuffled among those that pass by: less memory and time."""

    source: ClassVar[str] = "Xu et al. 2020, PC-DARTS (arXiv:1907.05737), section 3.2"

    divisor: int = Field(4, gt=1, description="1/divisor of the channels goes through the operations")

    def reason_to_refuse(self, space: CellSpace) -> str | None:
        part, rest = divmod(space.search_channels, self.divisor)
        if part > 1 and rest == 0:
            return None
        return f"its {space.search_channels} channels do not divide into {self.divisor} equal parts of 2 or more"

    def fan(self, space: CellSpace, channels: int, edges: Sequence[Sequence[str]], stride: int) -> nn.Module:
        from nasdistill.search.fan import Fan, PartialFan

        return PartialFan(Fan(space, channels // self.divisor, edges, stride), self.divisor)
