"""The order in which an image meets a network's parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.models.depth import depths, up_to


class Backwards(nn.Module):
    """Defines its layers from the last to the first, and owns a parameter itself."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.stem = nn.Conv2d(3, 3, 1)
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.block(self.stem(images + self.shift)).mean((2, 3)))
        return found


def test_layers_lie_evenly_between_the_first_and_the_last() -> None:
    found = depths(Backwards(), (3, 4, 4))
    assert found == {
        "shift": 0.0,
        "stem.weight": 0.25,
        "stem.bias": 0.25,
        "block.0.weight": 0.5,
        "block.0.bias": 0.5,
        "block.1.weight": 0.75,
        "block.1.bias": 0.75,
        "head.weight": 1.0,
        "head.bias": 1.0,
    }


def test_what_comes_before_the_end_of_a_module_holds_all_inside_it() -> None:
    network = Backwards()
    assert up_to("stem", network, (3, 4, 4)) == {"shift", "stem.weight", "stem.bias"}
    rest = {"head.weight", "head.bias"}
    assert up_to("block", network, (3, 4, 4)) == up_to("block.2", network, (3, 4, 4))
    assert up_to("block", network, (3, 4, 4)) | rest == {name for name, _ in network.named_parameters()}
    with pytest.raises(UserError, match=r"an image meets no module 'blok'; did you mean 'block'\?"):
        up_to("blok", network, (3, 4, 4))
