"""Layers of cells: separable and dilated convolutions, what changes width or resolution; and how weights are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from nasdistill.depthwise.convolution import DepthwiseConv2d, depthwise_conv2d


class ReLUConvNorm(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm: brings a state to the width of a cell."""

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels, affine=affine)
        )


class Depthwise(DepthwiseConv2d):
    """A depthwise convolution that keeps the size, but for its stride.

    Where stride and dilation are equal, every output reads pixels at multiples of the stride only, so the input is
    thinned first.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
        self.thinned = stride > 1 and stride == dilation

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return self.convolve(input, weight)

    def convolve(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """This convolution with other weights, of any number of channels: [channels, 1, kernel, kernel]."""
        stride, dilation = self.stride[0], self.dilation[0]
        padding = (self.kernel_size[0] - 1) // 2
        if self.thinned:
            return depthwise_conv2d(x[:, :, ::stride, ::stride], weight, padding=padding)
        return depthwise_conv2d(x, weight, None, stride, dilation * padding, dilation)


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


class FactorizedReduce(nn.Module):
    """Halves the resolution without losing a pixel parity: two 1x1 convolutions of stride 2, one shifted by a pixel.

    [N, in_channels, H, W] to [N, out_channels, ceil(H/2), ceil(W/2)]. The stride is taken before the convolution, which
    is the same function: oneDNN's strided 1x1 kernels write past their buffers where channels are few (torch 2.14.1 on
    AVX2).
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - half, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(x)
        # An odd side gets one more pixel, so that both convolutions see equally many.
        shifted = functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        pixels = self.conv1(x[:, :, ::2, ::2]), self.conv2(shifted[:, :, ::2, ::2])
        return self.norm(concatenated(pixels))  # type: ignore[no-any-return]


class Zero(nn.Module):
    """Zeros of the shape that an operation of this stride would give."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


def concatenated(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """`torch.cat` along the channels, of whose gradients none has gaps."""
    return torch.cat([closing_gaps(part) for part in parts], dim=1)


def closing_gaps(x: torch.Tensor) -> torch.Tensor:
    """`x`, whose gradient gets no gaps. Slices of a concatenation's have, and with them the backward passes of batch
    norms and ReLUs take several times as long where the channels lie beside each other."""
    if x.requires_grad and not torch.compiler.is_compiling():
        x.register_hook(_without_gaps)  # type: ignore[no-untyped-call]
    return x


def _without_gaps(gradient: torch.Tensor) -> torch.Tensor:
    dense = gradient.is_contiguous() or gradient.is_contiguous(memory_format=torch.channels_last)
    return gradient if dense else gradient.clone()


def draw_weights(network: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    """Convolutions from a normal distribution that keeps the variance behind a ReLU; the classifier's bias is zero.

    Source: He et al. 2015, Delving Deep into Rectifiers, equation 10 (fan_in) or 14 (fan_out).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
    nn.init.zeros_(network.get_parameter("classifier.bias"))
