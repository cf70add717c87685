"""The operations of DARTS: none, a skip connection, pools, separable and dilated convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.models.operations import OPERATIONS, Operation

if TYPE_CHECKING:
    from torch import nn


@OPERATIONS.register("none")
class NoEdge(Operation):
    """Contributes nothing: lets a supernet weaken an edge; never kept in a found network."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 2.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from nasdistill.models.layers import Zero

        return Zero(stride)


@OPERATIONS.register("skip_connect")
class SkipConnect(Operation):
    """The identity; at stride 2 a factorised reduce."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1 and released code"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from torch import nn

        from nasdistill.models.layers import FactorizedReduce

        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


@OPERATIONS.register("max_pool_3x3")
class MaxPool3x3(Operation):
    """Maximum over 3x3 pixels."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from torch import nn

        return nn.MaxPool2d(3, stride, padding=1)


@OPERATIONS.register("avg_pool_3x3")
class AvgPool3x3(Operation):
    """Mean over those of 3x3 pixels that lie inside the image."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from torch import nn

        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


@OPERATIONS.register("sep_conv_3x3")
class SepConv3x3(Operation):
    """Depthwise-separable 3x3 convolution, applied twice."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"
    kernel: ClassVar[int] = 3

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from nasdistill.models.layers import SeparableConv

        return SeparableConv(channels, self.kernel, stride, affine)


@OPERATIONS.register("sep_conv_5x5")
class SepConv5x5(SepConv3x3):
    """Depthwise-separable 5x5 convolution, applied twice."""

    kernel: ClassVar[int] = 5


@OPERATIONS.register("dil_conv_3x3")
class DilConv3x3(Operation):
    """Depthwise-separable 3x3 convolution of dilation 2."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"
    kernel: ClassVar[int] = 3

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from nasdistill.models.layers import DilatedConv

        return DilatedConv(channels, self.kernel, stride, 2, affine)


@OPERATIONS.register("dil_conv_5x5")
class DilConv5x5(DilConv3x3):
    """Depthwise-separable 5x5 convolution of dilation 2."""

    kernel: ClassVar[int] = 5
