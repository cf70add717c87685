"""Gradients of weights before training, which most proxies are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def weights_of(network: nn.Module) -> list[nn.Parameter]:
    """What convolutions and matrix products multiply by; biases and the parameters of norms are left out."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]


def gradients(loss: torch.Tensor, weights: Sequence[torch.Tensor], create_graph: bool = False) -> list[torch.Tensor]:
    """The gradient of a scalar for each weight, zeros where it does not depend on it."""
    if not loss.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    return list(torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True))


def loss_of(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy with the labels."""
    return functional.cross_entropy(network(images), labels)


def summed(parts: Sequence[torch.Tensor]) -> float:
    """The sum of scalars, in double precision."""
    return float(torch.stack([part.detach().double() for part in parts]).sum()) if parts else 0.0
