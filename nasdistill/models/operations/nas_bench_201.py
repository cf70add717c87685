"""The operations that NAS-Bench-201 has beside those of DARTS: convolutions of all channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.models.operations import OPERATIONS, Operation

if TYPE_CHECKING:
    from torch import nn


@OPERATIONS.register("nor_conv_3x3")
class NorConv3x3(Operation):
    """ReLU, 3x3 convolution of all channels, batch norm."""

    source: ClassVar[str] = "Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326), section 2.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from nasdistill.models.layers import ReLUConv3x3Norm

        return ReLUConv3x3Norm(channels, channels, stride, affine)


@OPERATIONS.register("nor_conv_1x1")
class NorConv1x1(Operation):
    """ReLU, 1x1 convolution of all channels, batch norm; at stride 2 of every second pixel."""

    source: ClassVar[str] = "Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326), section 2.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from torch import nn

        from nasdistill.models.layers import ReLUConvNorm

        convolution = ReLUConvNorm(channels, channels, affine)
        # As in `FactorizedReduce` the stride comes before the convolution; a pool of one pixel takes every second one.
        return convolution if stride == 1 else nn.Sequential(nn.MaxPool2d(1, stride), convolution)
