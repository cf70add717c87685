"""Separable and dilated convolutions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from nasdistill.models.operations import OPERATIONS, Operation


class ReLUConvNorm(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm: brings a state to the width of a cell."""

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels, affine=affine)
        )


class Depthwise(nn.Conv2d):
    """A depthwise convolution that keeps the size, but for its stride.

    Where stride and dilation are equal, every output reads pixels at multiples of the stride only, so the input is
    thinned first. Other strided or dilated ones stay in float32 on a CPU: in bfloat16 oneDNN's backward pass takes 2 to
    20 times as long.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
        self.thinned = stride > 1 and stride == dilation

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return self.convolve(input, weight)

    def convolve(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """This convolution with other weights, of any number of channels: [channels, 1, kernel, kernel]."""
        groups, stride, dilation = len(weight), self.stride, self.dilation[0]
        padding = (self.kernel_size[0] - 1) // 2
        if self.thinned:
            return functional.conv2d(x[:, :, :: stride[0], :: stride[0]], weight, padding=padding, groups=groups)
        if x.device.type != "cpu" or (stride[0] == 1 and dilation == 1):
            return functional.conv2d(x, weight, None, stride, dilation * padding, dilation, groups)
        with torch.autocast("cpu", enabled=False):
            return functional.conv2d(x.to(weight.dtype), weight, None, stride, dilation * padding, dilation, groups)


class DilatedConv(nn.Sequential):
    """ReLU, depthwise, pointwise, batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            Depthwise(channels, kernel, stride, dilation),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class SeparableConv(nn.Sequential):
    """ReLU, depthwise, pointwise, batch norm, twice; the stride is the first one's."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        first = DilatedConv(channels, kernel, stride, 1, affine)
        second = DilatedConv(channels, kernel, 1, 1, affine)
        super().__init__(*first, *second)


@OPERATIONS.register("sep_conv_3x3")
class SepConv3x3(Operation):
    """Depthwise-separable 3x3 convolution, applied twice."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return SeparableConv(channels, 3, stride, affine)


@OPERATIONS.register("sep_conv_5x5")
class SepConv5x5(Operation):
    """Depthwise-separable 5x5 convolution, applied twice."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return SeparableConv(channels, 5, stride, affine)


@OPERATIONS.register("dil_conv_3x3")
class DilConv3x3(Operation):
    """Depthwise-separable 3x3 convolution of dilation 2."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return DilatedConv(channels, 3, stride, 2, affine)


@OPERATIONS.register("dil_conv_5x5")
class DilConv5x5(Operation):
    """Depthwise-separable 5x5 convolution of dilation 2."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return DilatedConv(channels, 5, stride, 2, affine)
