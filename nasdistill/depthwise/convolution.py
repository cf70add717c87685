"""The depthwise convolution as a function and as a module, which drop in for torch's."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_variadic

from nasdistill.depthwise.compiled import KERNELS, Geometry, weight_gradient
from nasdistill.depthwise.compiler import is_compiled
from nasdistill.depthwise.processor import cpu_has_bf16

Both = int | tuple[int, int]
"""A number for both dimensions, or one for each."""


def depthwise_conv2d(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Both = 1,
    padding: Both = 0,
    dilation: Both = 1,
) -> torch.Tensor:
    """`torch.nn.functional.conv2d` with a group for every channel, whose gradients take about as long as it does.

    Where stride and dilation are equal every output reads pixels at multiples of the stride only, and the inputs are
    thinned first. Torch's own kernels run where they are as fast or the only ones: on other devices, without gradients,
    for kernels that are not square with 3, 5 or 7 taps in a row, while a network is traced or exported, and for second
    derivatives; on machines without a C compiler for the gradient to the weights.

    Args:
        inputs: [N, C, H, W].
        weight: [C, 1, kernel, kernel].
        bias: [C].

    Returns:
        [N, C, H', W'].
    """
    if has_torch_function_variadic(inputs, weight):
        arguments = (inputs, weight, bias, stride, padding, dilation)
        handle: Any = handle_torch_function  # whose types leave out the arguments of the function
        return cast(torch.Tensor, handle(depthwise_conv2d, (inputs, weight), *arguments))
    geometry = _square(stride, padding, dilation)
    if geometry is not None and geometry.stride == geometry.dilation > 1 and geometry.padding % geometry.stride == 0:
        inputs = inputs[:, :, :: geometry.stride, :: geometry.stride]
        geometry = Geometry(1, geometry.padding // geometry.stride, 1)
        stride, padding, dilation = geometry
    if geometry is None or not is_ours(inputs, weight) or _is_fast_in_torch(inputs, weight, geometry):
        return functional.conv2d(inputs, weight, bias, stride, padding, dilation, weight.shape[0])
    dtype = computed_in(inputs)
    outputs = cast(torch.Tensor, _Convolution.apply(inputs.to(dtype), weight.to(dtype), geometry))
    return outputs if bias is None else outputs + bias.to(dtype)[:, None, None]


class DepthwiseConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with a group for every channel, by `depthwise_conv2d`."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        simple = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if not simple or type(input) is not torch.Tensor:  # but what torch traces with
            return cast(torch.Tensor, super()._conv_forward(input, weight, bias))
        stride, padding, dilation = (cast(tuple[int, int], each) for each in (self.stride, self.padding, self.dilation))
        return depthwise_conv2d(input, weight, bias, stride, padding, dilation)


def accelerate(network: nn.Module) -> None:
    """Make all depthwise convolutions of a network, whoever wrote it, `DepthwiseConv2d`.

    They change their class where they stand, so that their weights, hooks and whoever holds them stay as they are.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels == module.out_channels > 1:
            module.__class__ = DepthwiseConv2d


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = geometry
        return functional.conv2d(inputs, weight, None, *geometry, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        to_inputs, to_weight = ctx.needs_input_grad[:2]
        of_inputs = of_weight = None
        with torch.autocast("cpu", enabled=False):
            if torch.is_grad_enabled():  # somebody wants second derivatives
                of_inputs, of_weight = by_torch(inputs, gradient, weight, ctx.geometry, (to_inputs, to_weight))
            else:
                if to_inputs:
                    of_inputs = gradient_to_inputs(inputs, gradient, weight, ctx.geometry)
                if to_weight:
                    of_weight = gradient_to_weight(inputs, gradient, weight, ctx.geometry)
        return of_inputs, of_weight, None


def gradient_to_inputs(
    inputs: torch.Tensor, gradient: torch.Tensor, weight: torch.Tensor, geometry: Geometry
) -> torch.Tensor:
    """Of stride 1 it is a convolution with the flipped kernel, for which torch is never slower than for a gradient."""
    stride, padding, dilation = geometry
    border = dilation * (weight.shape[-1] - 1) - padding
    if stride == 1 and border >= 0:
        return functional.conv2d(gradient, weight.flip(2, 3), None, 1, border, dilation, len(weight))
    # In float32: torch's kernel for bfloat16 takes 2 to 20 times as long. It reads no values of the inputs.
    unread = torch.empty_like(inputs, dtype=torch.float32)
    found, _ = by_torch(unread, gradient.float(), weight.float(), geometry, (True, False))
    assert found is not None
    return found.to(inputs.dtype)


def gradient_to_weight(
    inputs: torch.Tensor, gradient: torch.Tensor, weight: torch.Tensor, geometry: Geometry
) -> torch.Tensor:
    """By the compiled function where there is one, else by torch, in float32 as above."""
    if is_compiled():
        return weight_gradient(inputs, gradient, weight.shape[-1], geometry).to(weight.dtype)
    _, found = by_torch(inputs.float(), gradient.float(), weight.float(), geometry, (False, True))
    assert found is not None
    return found.to(weight.dtype)


def by_torch(
    inputs: torch.Tensor, gradient: torch.Tensor, weight: torch.Tensor, geometry: Geometry, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Torch's gradients to the inputs and to the weights, as far as they are wanted; they have gradients themselves."""
    of_inputs, of_weight, _ = torch.ops.aten.convolution_backward(
        *(gradient, inputs, weight, None),
        *([each] * 2 for each in geometry),
        *(False, [0, 0], len(weight), [*wanted, False]),
    )
    return of_inputs, of_weight


def _square(*geometry: Both) -> Geometry | None:
    """The numbers for both dimensions, if each is one."""
    pairs = [(each, each) if isinstance(each, int) else each for each in geometry]
    return Geometry(*(pair[0] for pair in pairs)) if all(first == second for first, second in pairs) else None


def computed_in(inputs: torch.Tensor) -> torch.dtype:
    """The type in which convolutions compute: autocast's, or that of their inputs."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else inputs.dtype


def is_ours(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether gradients will be wanted that can be computed here."""
    return (
        is_computable(inputs, weight)
        and weight.shape[:2] == (inputs.shape[1], 1)
        and weight.shape[2] == weight.shape[3] in KERNELS
        and torch.is_grad_enabled()
        and (inputs.requires_grad or weight.requires_grad)
    )


def is_computable(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the functions in C can compute with such images [N, C, H, W] and weights."""
    dtype = computed_in(inputs)
    return (
        not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and torch._C._functorch.peek_interpreter_stack() is None
        and type(inputs) is torch.Tensor  # others stand for values that they do not have
        and inputs.device.type == weight.device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and (dtype == inputs.dtype == weight.dtype or torch.is_autocast_enabled("cpu"))
        and inputs.ndim == 4
        and inputs.numel() > 0
    )


def _is_fast_in_torch(inputs: torch.Tensor, weight: torch.Tensor, geometry: Geometry) -> bool:
    """Whether torch's kernels for the gradients take as little time, as `benchmarks.depthwise` shows.

    Those for 3x3 do with AVX-512, and in bfloat16 at stride 1 where the processor multiplies it itself.
    """
    if weight.shape[-1] != 3 or geometry.dilation != 1:
        return False
    channels_last = inputs.is_contiguous(memory_format=torch.channels_last)
    if computed_in(inputs) == torch.bfloat16:
        return geometry.stride == 1 and not channels_last and cpu_has_bf16()
    large = inputs.shape[2] * inputs.shape[3] >= 256 and channels_last
    return not (large and geometry.stride == 1) or torch.backends.cpu.get_cpu_capability() == "AVX512"
