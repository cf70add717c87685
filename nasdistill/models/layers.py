"""Layers of cells: separable and dilated convolutions, what changes the size; how weights are drawn and copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.depthwise.convolution import DepthwiseConv2d
from nasdistill.depthwise.fused import can_fuse, sum_of_branches
from nasdistill.depthwise.separable import Branch, Layer


class Depthwise(DepthwiseConv2d):
    """A depthwise convolution that keeps the size, but for its stride."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)


class Together(nn.Sequential):
    """ReLU, depthwise and pointwise or only a pointwise convolution, batch norm, any number of times: computed together
    while they train and nobody looks at one of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self._branch()
        if branch is None or not can_fuse(x, [branch]):
            return cast(torch.Tensor, super().forward(x))  # type: ignore[no-untyped-call]
        outputs, moments = sum_of_branches(x, [branch])
        count = outputs.numel() // outputs.shape[1]
        norms = [module for module in self if isinstance(module, nn.BatchNorm2d)]
        for norm, (mean, variance) in zip(norms, moments, strict=True):
            _track(norm, mean, variance * count / (count - 1))
        return outputs

    def _branch(self) -> Branch | None:
        """The layers, if each is what it was built as, and its batch norm takes the statistics of a batch."""
        if not all(module.training for module in self) or any(map(_is_watched, self)):
            return None
        branch, modules = [], list(self)
        while modules:
            size = 4 if len(modules) > 3 and type(modules[1]) is Depthwise else 3
            relu, *depthwise, pointwise, norm = modules[:size]
            modules = modules[size:]
            if (type(relu), type(pointwise), type(norm)) != (nn.ReLU, nn.Conv2d, nn.BatchNorm2d):
                return None
            branch.append(_layer(depthwise[0] if depthwise else None, pointwise, norm))
        return branch


def _layer(depthwise: nn.Module | None, pointwise: nn.Module, norm: nn.Module) -> Layer:
    assert isinstance(pointwise, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    of_norm = (norm.weight, norm.bias, norm.eps)
    if depthwise is None:
        return Layer(None, pointwise.weight, 1, 1, *of_norm)
    assert isinstance(depthwise, Depthwise)
    return Layer(depthwise.weight, pointwise.weight, depthwise.stride[0], depthwise.dilation[0], *of_norm)


def _is_watched(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


def _track(norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Move running statistics to those of a batch, its unbiased variance, as torch does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


class ReLUConvNorm(Together):
    """ReLU, 1x1 convolution, batch norm: brings a state to the width of a cell."""

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels, affine=affine)
        )


class ReLUConv3x3Norm(nn.Sequential):
    """ReLU, 3x3 convolution, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels, affine=affine),
        )


class Stem(nn.Sequential):
    """3x3 convolution, batch norm: what networks of cells begin with."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(out_channels))


class DilatedConv(Together):
    """ReLU, depthwise, pointwise, batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            Depthwise(channels, kernel, stride, dilation),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class SeparableConv(Together):
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
        even, odd = rectified_halves(x)
        return self.norm(concatenated((self.conv1(even), self.conv2(odd))))  # type: ignore[no-any-return]


class Zero(nn.Module):
    """Zeros of the shape that an operation of this stride would give."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """Standard normal noise of the shape that an operation of this stride would give, whatever the input is."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(x[:, :, :: self.stride, :: self.stride])


def rectified_halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Behind a ReLU the pixels of even rows and columns, and of odd ones, [N, C, ceil(H/2), ceil(W/2)] each: of an odd
    side the latter have one of zeros, so that both are equally many."""
    even, odd = functional.relu(strided(x, 2)), functional.relu(strided(x, 2, 1))
    return even, functional.pad(odd, (0, x.shape[3] % 2, 0, x.shape[2] % 2))


def strided(x: torch.Tensor, stride: int, first: int = 0) -> torch.Tensor:
    """Every `stride`-th row and column of images [N, C, H, W], from `first` on, with a gradient that lies in memory as
    `x` does; torch's own lies channel by channel, and what it flows through takes several times as long."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x.movedim(1, 3)[:, first::stride, first::stride].movedim(3, 1)
    return x[:, :, first::stride, first::stride]


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


def groups_of_blocks(block: Callable[[int, int, int], nn.Module], blocks: int, widths: Sequence[int]) -> nn.ModuleList:
    """Three groups of blocks, of which the second and the third begin with a stride of 2.

    Args:
        block: made of its channels in and out, and its stride.
        blocks: of each group.
        widths: channels that the first group reads, and those of each group.
    """
    return nn.ModuleList(
        nn.Sequential(block(before, after, stride), *(block(after, after, 1) for _ in range(blocks - 1)))
        for before, after, stride in zip(widths[:-1], widths[1:], (1, 2, 2), strict=True)
    )


def draw_weights(network: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    """Convolutions from a normal distribution that keeps the variance behind a ReLU; the classifier's bias is zero.

    Source: He et al. 2015, Delving Deep into Rectifiers, equation 10 (fan_in) or 14 (fan_out).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
    nn.init.zeros_(network.get_parameter("classifier.bias"))


def copy_into(network: nn.Module, source: nn.Module) -> None:
    """Copy all that `source` holds; what the network has beside it, such as scales of batch norms, stays."""
    network.load_state_dict({**network.state_dict(), **source.state_dict()})
