"""What all supernets share: whose parameters are whose, and a state that goes in and out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.errors import UserError
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


def test_a_state_holds_what_is_shared_once_and_comes_back_in_place() -> None:
    one, other = Tied(), Tied()
    one.norm(torch.randn(4, 2))
    state = one.state()
    assert one.state_dict().keys() - state.keys() == {"second.weight", "second.bias"}
    kept = other.first.weight
    other.load_state(state)
    assert other.first.weight is kept
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in other.state_dict().items())


def test_a_state_of_another_supernet_is_refused() -> None:
    supernet = Tied()
    state = supernet.state()
    del state["alpha"]
    with pytest.raises(UserError, match="of another supernet; remove it"):
        supernet.load_state(state)
