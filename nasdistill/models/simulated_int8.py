"""A network that computes in floats what its export in 8 bits will compute in integers, so that it can learn to.

Source: Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only inference
(arXiv:1712.05877), sections 2.1 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nasdistill.data.base import Shape
from nasdistill.depthwise.convolution import depthwise_conv2d
from nasdistill.errors import UserError
from nasdistill.models.inspection import blank_image
from nasdistill.models.portable import declare_points, without_auxiliary
from nasdistill.training.modes import in_evaluation_mode

LEVELS = 255
"""Steps between the least and the greatest of 8 bits."""
MOMENTUM = 0.01
"""By how much a batch moves the range of a tensor; section 3.1 wants averages over thousands of steps."""

_UNLIKE = "the network computes other layers and sums in training than in use, so that they cannot be rounded alike"
_WITH_WEIGHTS = (torch.conv1d, torch.conv2d, depthwise_conv2d, functional.linear)
_SUMS = (torch.add, torch.Tensor.add, torch.Tensor.add_)


class SimulatedInt8(nn.Module):
    """`network`, whose convolutions, linear layers, sums and hard-swishes read values of 8 bits; sums give such, too.

    Weights have a scale for each output channel, and lie symmetrically: as batch norms multiply channels, they round to
    the same levels before these are folded into them and after. These values, the activations, have a range for
    each tensor, which `calibrate` finds and training moves. Gradients pass through the rounding, and stop outside of
    ranges. It computes in single precision whatever the engine does, as bf16 would round its 8 bits once more.

    Attributes:
        low, high: ranges of activations in the order of the forward pass, [points].

    Args:
        network: its layers become parts, all but its auxiliary head, which stays with it as it is.
        shape: channels, height and width of its images.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, network: nn.Module, shape: Shape) -> None:
        super().__init__()
        network = without_auxiliary(network)
        self.network = network
        declare_points(self, network)
        counted = _Rounding(lambda _at, values: values)
        with in_evaluation_mode(network), torch.no_grad(), counted:
            network(blank_image(network, shape))
        self.register_buffer("low", torch.full((counted.met,), float("inf")))
        self.register_buffer("high", torch.full((counted.met,), float("-inf")))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._run(images, self._learned if self.training else self._rounded)

    @torch.no_grad()
    def check_training(self, shape: Shape) -> None:
        """Run two black images of this shape in training mode; the statistics of batch norms are others afterwards.

        Raises:
            UserError: the network computes other layers and sums in training than in use.
        """
        self.train()
        self._run(blank_image(self.network, shape).repeat(2, 1, 1, 1), lambda _at, values: values)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the ranges to all that images [N, C, H, W] show."""
        with in_evaluation_mode(self):
            for images in batches:
                self._run(images, self._widened)

    def _run(self, images: torch.Tensor, read: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        def read_known(at: int, values: torch.Tensor) -> torch.Tensor:
            if at == len(self.low):
                raise UserError(_UNLIKE)
            return read(at, values)

        with torch.autocast(images.device.type, enabled=False), _Rounding(read_known) as rounding:
            logits: torch.Tensor = self.network(images)
        if rounding.met < len(self.low):
            raise UserError(_UNLIKE)
        return logits

    def _widened(self, at: int, values: torch.Tensor) -> torch.Tensor:
        low, high = torch.aminmax(values.detach())
        self.low[at], self.high[at] = torch.minimum(self.low[at], low), torch.maximum(self.high[at], high)
        return values

    def _learned(self, at: int, values: torch.Tensor) -> torch.Tensor:
        low, high = torch.aminmax(values.detach())
        self.low[at].lerp_(low.float(), MOMENTUM)
        self.high[at].lerp_(high.float(), MOMENTUM)
        return self._rounded(at, values)

    def _rounded(self, at: int, values: torch.Tensor) -> torch.Tensor:
        low, high = self.low[at].clamp(max=0), self.high[at].clamp(min=0)  # zero is a level: padding is exact
        step = (high - low).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
        return rounded(values, step * (low / step).round(), step, LEVELS)


class _Rounding(TorchFunctionMode):
    """While it is entered, what layers and sums read, and what sums give, is what `read` makes of it.

    Args:
        read: of the place of a tensor, in the order of the forward pass, and the tensor.
    """

    def __init__(self, read: Callable[[int, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.read = read
        self.met = 0

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        named = named or {}
        if function in _WITH_WEIGHTS:
            images, weight, *others = arguments
            return function(self._read(images), rounded_weight(weight), *others, **named)
        if function is functional.hardswish:
            images = self._read(arguments[0])  # a file has it as a product, whose factors are rounded
            return images * self._read(functional.hardsigmoid(images))
        if function in _SUMS and not named and _is_sum_of_maps(arguments):
            first, second = arguments
            # A sum in place goes where its first term is.
            first = first if function is torch.Tensor.add_ else self._read(first)
            return self._read(function(first, self._read(second)))
        return function(*arguments, **named)

    def _read(self, values: torch.Tensor) -> torch.Tensor:
        self.met += 1
        return self.read(self.met - 1, values)


def _is_sum_of_maps(terms: Sequence[Any]) -> bool:
    return all(isinstance(term, torch.Tensor) and term.ndim > 2 for term in terms) and (
        terms[0].shape == terms[1].shape
    )


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """[out, ...] to 255 levels around zero, the largest of each output channel at their end."""
    limit = LEVELS // 2
    largest = weight.detach().abs().flatten(1).amax(1).clamp(min=torch.finfo(weight.dtype).tiny)
    step = largest.view(-1, *[1] * (weight.ndim - 1)) / limit
    return rounded(weight, -limit * step, step, 2 * limit)


def rounded(values: torch.Tensor, low: torch.Tensor, step: torch.Tensor, levels: int) -> torch.Tensor:
    """The nearest of low, low + step, ... low + levels * step; the gradient is 1 within them and 0 outside."""
    result: torch.Tensor = _Rounded.apply(values, low, step, levels)
    return result


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, low: torch.Tensor, step: torch.Tensor, levels: int) -> torch.Tensor:
        number = values.sub(low).div_(step).round_()
        within = number.clamp(0, levels)
        ctx.save_for_backward(within == number)
        return within.mul_(step).add_(low)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0] * ctx.saved_tensors[0], None, None, None
