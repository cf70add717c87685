"""What all supernets share: whose parameters are whose, and a state that goes in and out."""

from __future__ import annotations

import torch
from torch import nn

from nasdistill.search.weight_sharing import WeightSharing


class Tied(WeightSharing):
    """Two layers that are one, a batch norm with buffers, and an alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.randn(3))
        self.first = nn.Linear(2, 2)
        self.second = self.first
        self.norm = nn.BatchNorm1d(2)

    def alphas(self) -> list[nn.Parameter]:
        return [self.alpha]


def test_what_is_no_alpha_is_a_weight() -> None:
    supernet = Tied()
    wanted = [supernet.first.weight, supernet.first.bias, supernet.norm.weight, supernet.norm.bias]
    assert list(map(id, supernet.weights())) == list(map(id, wanted))
