"""Regularisers of the architecture that are published."""

from __future__ import annotations

import functools
import itertools
from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.models.operations import OPERATIONS
from nasdistill.search.mixture import Mixture
from nasdistill.search.regularisers import REGULARISERS, Regulariser
from nasdistill.search.spaces.cells import CellSpace


@REGULARISERS.register("beta-decay")
class BetaDecay(Regulariser):
    """progress * mean over edges of logsumexp(alphas): keeps the softmax weights close, more so towards the end."""

    source: ClassVar[str] = "Ye et al. 2022, beta-DARTS (arXiv:2203.01665)"

    weight: float = Field(50.0, description="what this term is multiplied by at the end of the search")

    def loss(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        return mixture.moment.progress * mixture.alphas.logsumexp(dim=1).mean()


@functools.cache
def parameters_of(operation: str, channels: int) -> int:
    """Of an operation of stride 1."""
    module = OPERATIONS.get(operation)().build(channels, 1, affine=False)
    return sum(parameter.numel() for parameter in module.parameters())


@REGULARISERS.register("expected-parameters")
class ExpectedParameters(Regulariser):
    """Mean over edges of sum_k w_k P_k / max P, with P the operations' parameters: 1 where all take the largest."""

    source: ClassVar[str] = "Xie et al. 2019, SNAS (arXiv:1812.09926), with parameters as the cost"

    def loss(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        offered = space.offered(mixture.cell)
        costs = [[float(parameters_of(name, space.search_channels)) for name in names] for names in offered]
        expected = (mixture.weights * mixture.weights.new_tensor(costs)).sum(dim=1).mean()
        return expected / max(1.0, *itertools.chain(*costs))


@REGULARISERS.register("zero-one")
class ZeroOne(Regulariser):
    """-mean((w - 1/2)^2) over all weights w: drives gates to 0 or 1."""

    source: ClassVar[str] = "Chu et al. 2020, Fair DARTS (arXiv:1911.12126), section 3.3"

    weight: float = Field(10.0, description="what this term is multiplied by in the architecture's loss")

    def loss(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        return -(mixture.weights - 0.5).square().mean()
