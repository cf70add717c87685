"""3x3 pooling."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from nasdistill.models.operations import OPERATIONS, Operation


@OPERATIONS.register("max_pool_3x3")
class MaxPool3x3(Operation):
    """Maximum over 3x3 pixels."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.MaxPool2d(3, stride, padding=1)


@OPERATIONS.register("avg_pool_3x3")
class AvgPool3x3(Operation):
    """Mean over those of 3x3 pixels that lie inside the image."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
