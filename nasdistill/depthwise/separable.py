"""Sums of separable convolutions that read the same, with their batch norms, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from nasdistill.depthwise.compiled import Geometry
from nasdistill.depthwise.convolution import depthwise_conv2d

EPS = 1e-5
"""Of terms' batch norms, and torch's default."""


class Layer(NamedTuple):
    """ReLU, a depthwise convolution, a pointwise one, and a batch norm by the statistics of this batch, on E edges.

    Attributes:
        depthwise: [E * C, 1, kernel, kernel], padded so that a stride of 1 keeps the size; None where there is none,
            and a single edge.
        pointwise: [E * C', C, 1, 1]; each edge sees its own channels.
        scale, shift: of the batch norm, [E * C']; None for 1 and 0.
        eps: of the batch norm.
    """

    depthwise: torch.Tensor | None
    pointwise: torch.Tensor
    stride: int = 1
    dilation: int = 1
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    eps: float = EPS

    @property
    def edges(self) -> int:
        return 1 if self.depthwise is None else len(self.depthwise) // self.pointwise.shape[1]

    @property
    def geometry(self) -> Geometry:
        if self.depthwise is None:
            return Geometry(stride=1, padding=0, dilation=1)
        return Geometry(self.stride, self.dilation * (self.depthwise.shape[-1] - 1) // 2, self.dilation)


Branch = Sequence[Layer]
"""Layers, one after the other."""


class Term(NamedTuple):
    """Something else that is added on every edge.

    Attributes:
        values: [N, C', H', W'].
        weights: what they are multiplied by on each edge, [E].
        normalised: whether a batch norm without scale and shift comes first.
    """

    values: torch.Tensor
    weights: torch.Tensor
    normalised: bool


def layer_by_layer(inputs: torch.Tensor, branches: Sequence[Branch], terms: Sequence[Term] = ()) -> torch.Tensor:
    """Branches that read the same inputs on each of E edges, and terms, added.

    Args:
        inputs: [N, C, H, W].
        branches: at least one.

    Returns:
        [N, E * C', H', W'], the edges beside each other.
    """
    edges = branches[0][0].edges
    repeated = torch.cat([functional.relu(inputs)] * edges, dim=1)
    made = []
    for branch in branches:
        x = repeated
        for index, layer in enumerate(branch):
            x = functional.relu(x) if index else x
            x = x if layer.depthwise is None else depthwise_conv2d(x, layer.depthwise, None, *layer.geometry)
            x = functional.conv2d(x, layer.pointwise, groups=edges)
            x = functional.batch_norm(x, None, None, layer.scale, layer.shift, training=True, eps=layer.eps)
        made.append(x)
    if terms:
        made.append(mixed(terms))
    return sum(made[1:], made[0])


def mixed(terms: Sequence[Term]) -> torch.Tensor:
    """Terms added, [N, E * C, H, W], by one 1x1 convolution: its kernel is the Kronecker product of weights and an
    identity."""
    features = [
        functional.batch_norm(term.values, None, None, training=True, eps=EPS) if term.normalised else term.values
        for term in terms
    ]
    weights = torch.stack([term.weights for term in terms], dim=1)
    identity = torch.eye(features[0].shape[1], dtype=weights.dtype, device=weights.device)
    return functional.conv2d(torch.cat(features, dim=1), torch.kron(weights, identity)[:, :, None, None])
