"""Layers whose weights, and activations if wanted, are one bit each (XNOR-Net).

A binary layer is made of a real one by `make_binary` and keeps its parameters, which training goes on to change: they
are the real weights W whose signs the layer computes with.

Source: Rastegari, Ordonez, Redmon, Farhadi 2016, XNOR-Net: ImageNet classification using binary convolutional neural
networks (arXiv:1603.05279), sections 3.1 and 3.2; the released code is github.com/allenai/XNOR-Net. As there, and
other than in equation 11 of the paper, the map K of the input's scales is left out.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from nasdistill.models.layers import Depthwise
from nasdistill.models.packing import pack_signs, unpack_signs

Form = Literal["weights", "xnor"]


def signs(inputs: torch.Tensor) -> torch.Tensor:
    """1 where a value is at least 0, else -1; the gradient passes straight through where |x| <= 1.

    Source: section 3.1, "Training Binary-Weights-Networks", after Courbariaux et al. 2016 (arXiv:1602.02830), eq. 4.
    """
    result: torch.Tensor = _Signs.apply(inputs)
    return result


def filter_scale(weight: torch.Tensor) -> torch.Tensor:
    """alpha = mean |W| over each filter (equation 6); of [out, ...] it is [out, 1, ...]."""
    return weight.abs().mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def scaled_signs(weight: torch.Tensor) -> torch.Tensor:
    """W~ = alpha * sign(W), the binary filters that come nearest to W [out, ...] (equations 4 and 6).

    The gradient is the paper's, dC/dW_i = dC/dW~_i * (1/n + alpha * [|W_i| <= 1]) with n values in a filter
    (section 3.1). It keeps what alpha owes to W_i itself, and leaves out what the other weights of the filter get
    through alpha. The released code multiplies it by n * (1 - 1/in), which Adam does not notice and plain SGD would
    take for a far larger learning rate, centres W over the input's channels and clips it to [-1, 1]; here W is free.
    """
    result: torch.Tensor = _ScaledSigns.apply(weight)
    return result


class _Signs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inputs.abs() <= 1)
        return (inputs >= 0).to(inputs.dtype) * 2 - 1

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        inside: torch.Tensor = ctx.saved_tensors[0]
        return gradients[0] * inside


class _ScaledSigns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        scale = filter_scale(weight)
        ctx.save_for_backward(weight, scale)
        return torch.where(weight >= 0, scale, -scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        weight, scale = ctx.saved_tensors
        factor: torch.Tensor = 1 / weight[0].numel() + scale * (weight.abs() <= 1)
        return gradients[0] * factor


class BinaryLayer(nn.Module):
    """What binary convolutions and binary linear layers have in common.

    In the form `xnor` the layer begins with a batch norm of its own and takes the signs of what comes out: the paper's
    order BN-sign-conv. The norm belongs to the layer because in a network that was not written for this, a ReLU stands
    before most convolutions, after which every sign would be +1; so any network works as it is.

    Attributes:
        norm: the batch norm before the signs of the inputs; None where inputs stay real.
        weight: W, [out, ...]; None once the layer is packed.
        bits, scale: in a packed layer, what `pack_signs` and `filter_scale` give for W.
    """

    norm: nn.Module | None
    weight: torch.Tensor
    bits: torch.Tensor
    scale: torch.Tensor

    def weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError(type(self).__name__)

    def binary_weight(self) -> torch.Tensor:
        """W~, [out, ...]."""
        if self.weight is None:
            return unpack_signs(self.bits, self.weight_shape(), self.scale.dtype) * self.scale
        return scaled_signs(self.weight)

    def packed_bytes(self) -> int:
        """What the weight takes once it is packed, with scales in float32."""
        shape = self.weight_shape()
        return math.ceil(math.prod(shape) / 8) + 4 * shape[0]

    def pack(self) -> None:
        """Keep one bit of each weight and a scale per filter: the layer computes the same, and learns no more."""
        weight = self.weight.detach()
        self.register_parameter("weight", None)
        self.register_buffer("bits", pack_signs(weight))
        self.register_buffer("scale", filter_scale(weight))


class BinaryConv2d(BinaryLayer, nn.Conv2d):
    """A convolution with binary filters, of any stride, dilation, padding and groups.

    Padding is zeros, as everywhere; a padded pixel is neither +1 nor -1 and adds nothing.
    """

    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.norm is not None:
            inputs = signs(self.norm(inputs))
        outputs: torch.Tensor = self._conv_forward(inputs, self.binary_weight(), self.bias)
        return outputs


class BinaryDepthwise(BinaryConv2d, Depthwise):
    """A depthwise convolution of a search space with binary filters."""


class BinaryLinear(BinaryLayer, nn.Linear):
    """A linear layer with binary rows; its norm takes all but the last dimension of [..., in] as the batch."""

    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_features, self.in_features)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.norm is not None:
            normed = self.norm(inputs) if inputs.ndim == 2 else self.norm(inputs.flatten(0, -2)).view_as(inputs)
            inputs = signs(normed)
        return functional.linear(inputs, self.binary_weight(), self.bias)


_BINARY: dict[type[nn.Module], type[BinaryLayer]] = {
    nn.Conv2d: BinaryConv2d,
    Depthwise: BinaryDepthwise,
    nn.Linear: BinaryLinear,
}


def can_be_binary(layer: nn.Module) -> bool:
    """Whether there is a binary form of a layer; of a class that computes something of its own there is none."""
    return type(layer) in _BINARY


def make_binary(layer: nn.Module, form: Form) -> None:
    """Turn a convolution or linear layer into a binary one, in place: what refers to it, refers to the binary one."""
    weight = layer.get_parameter("weight")
    norm: nn.Module | None = None
    if form == "xnor":
        channels = layer.in_channels if isinstance(layer, nn.Conv2d) else weight.shape[1]
        kind = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
        norm = kind(channels, device=weight.device, dtype=weight.dtype)
    layer.__class__ = _BINARY[type(layer)]
    layer.register_module("norm", norm)
