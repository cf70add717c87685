"""Embeddings: where a network holds one vector per image, and how such vectors are read."""

from __future__ import annotations

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.matching import GIVE_A_PAIR
from nasdistill.distill.taps import INPUT
from nasdistill.errors import UserError
from nasdistill.models.ensemble import EnsembleNetwork
from nasdistill.models.inspection import run_order


def embedding_point(network: nn.Module, shape: Shape, whose: str = "network", advice: str = GIVE_A_PAIR) -> str:
    """The penultimate embedding: the input of the last linear layer that runs, as a point for `Taps`.

    Args:
        whose: names the network in the error.
        advice: what to do where it has none.

    Raises:
        UserError: no linear layer runs, or the network is several in one.
    """
    if isinstance(network, EnsembleNetwork):
        raise UserError(f"the {whose} is an ensemble, whose members have an embedding each; {advice}")
    linear = {path for path, module in network.named_modules() if isinstance(module, nn.Linear)}
    last = next((path for path in reversed(run_order(network, shape)) if path in linear), None)
    if last is None:
        raise UserError(f"the {whose} has no linear layer, whose input would be its embedding; {advice}")
    return last + INPUT


def embedding_pair(
    pair: tuple[str, str] | None, student: nn.Module, teacher: nn.Module, shape: Shape
) -> tuple[str, str]:
    """The points in student and teacher that were asked for, or those of their embeddings."""
    return pair or (embedding_point(student, shape, "student"), embedding_point(teacher, shape, "teacher"))


def vectors(activation: torch.Tensor) -> torch.Tensor:
    """One vector per image, [N, ...] to [N, D], in single precision at least."""
    return activation.flatten(1).to(torch.promote_types(activation.dtype, torch.float32))
