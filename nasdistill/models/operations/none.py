"""The operation that is no edge."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from nasdistill.models.operations import OPERATIONS, Operation


class Zero(nn.Module):
    """Zeros of the shape that an operation of this stride would give."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


@OPERATIONS.register("none")
class NoEdge(Operation):
    """Contributes nothing: lets a supernet weaken an edge; never kept in a found network."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 2.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return Zero(stride)
