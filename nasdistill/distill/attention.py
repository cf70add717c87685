"""Attention maps and the distance between two: where a network looks."""

from __future__ import annotations

import weakref
from typing import Any, Literal

import torch
from torch.nn import functional

from nasdistill.distill.maps import pooled_alike


def attention_map(activation: torch.Tensor, power: float = 2.0) -> torch.Tensor:
    """Q = mean over channels of |A|^p, [N, C, H, W] to [N, H, W], in single precision at least.

    Source: Zagoruyko, Komodakis, Paying More Attention to Attention (2017), section 3.1.
    """
    attention: torch.Tensor = _MeanSquare.apply(activation) if power == 2 else _mean_power(activation, power)
    return attention


def _mean_power(activation: torch.Tensor, power: float) -> torch.Tensor:
    # As ||A||_p^p / C: on a CPU its gradient takes half the time of that of a mean of powers.
    precision = torch.promote_types(activation.dtype, torch.float32)
    norm: torch.Tensor = torch.linalg.vector_norm(activation, power, dim=1, dtype=precision)
    return norm.pow(power) / activation.shape[1]


class _MeanSquare(torch.autograd.Function):
    """The mean power 2, whose gradient, 2 * A / C, needs one pass over the activation, in its own precision."""

    @staticmethod
    def forward(ctx: Any, activation: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(activation)
        return _mean_power(activation, 2)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        activation: torch.Tensor
        (activation,) = ctx.saved_tensors
        factors = gradient * (2 / activation.shape[1])
        return activation * factors.unsqueeze(1).to(activation.dtype)


class TeacherMap:
    """The attention map of a frozen teacher's activation, without gradients; the last one is remembered.

    In zero-shot transfer a student takes several steps on the same outputs of its teacher.
    """

    def __init__(self, power: float) -> None:
        self._power = power
        self._seen: tuple[weakref.ref[torch.Tensor], int] | None = None
        self._map = torch.empty(0)

    def __call__(self, activation: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] to [N, H, W], see `attention_map`."""
        if self._seen is None or self._seen[0]() is not activation or self._seen[1] != activation._version:
            self._map = attention_map(activation.detach(), self._power)
            self._seen = weakref.ref(activation), activation._version
        return self._map


def attention_distance(student: torch.Tensor, teacher: torch.Tensor, form: Literal["code", "paper"]) -> torch.Tensor:
    """How far apart two attention maps [N, H, W] lie, each divided by its L2 norm over space: q = Q / ||Q||_2.

    `code`:  mean over batch and space of (q_s - q_t)^2, as the paper's released code computes it.
    `paper`: mean over the batch of ||q_s - q_t||_2, as the paper writes it.

    Maps of unequal size are averaged down to the smaller one before they are normalised: mean energy per place, in
    which activations of opposite sign do not cancel.

    Source: Zagoruyko, Komodakis, Paying More Attention to Attention (2017), equation 2 (without its factor 1/2).
    """
    ours, theirs = (functional.normalize(maps.flatten(1), dim=1) for maps in pooled_alike(student, teacher))
    difference = ours - theirs
    if form == "code":
        return difference.square().mean()
    distances: torch.Tensor = torch.linalg.vector_norm(difference, dim=1)
    return distances.mean()
