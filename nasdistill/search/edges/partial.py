"""Partial channels."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.search.edges import EDGES, Edges
from nasdistill.search.fan import Fan
from nasdistill.search.mixture import Mixture
from nasdistill.search.spaces.cells import CellSpace


class PartialFan(nn.Module):
    """One of `divisor` parts of the channels goes through the operations; the others pass by, or through a max pool."""

    def __init__(self, fan: Fan, divisor: int) -> None:
        super().__init__()
        self.fan = fan
        self.divisor = divisor

    def forward(self, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        first, *others = state.chunk(self.divisor, dim=1)
        if self.fan.stride > 1:
            others = [functional.max_pool2d(part, 2, ceil_mode=True) for part in others]
        passing = [part.repeat(1, self.fan.edges, 1, 1) for part in others]
        # The j-th channels of all parts lie beside each other: the published shuffle.
        return torch.stack([self.fan(first, mixture), *passing], dim=2).flatten(1, 2)


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

    def fan(self, space: CellSpace, channels: int, edges: int, stride: int) -> nn.Module:
        return PartialFan(Fan(space, channels // self.divisor, edges, stride), self.divisor)
