"""CIFAR ResNets against counts that are published with other implementations."""

from __future__ import annotations

import pytest
import torch

from nasdistill.models.base import MODELS
from nasdistill.models.inspection import count_parameters
from nasdistill.models.resnet import PadShortcut


@pytest.mark.parametrize(
    ("name", "shortcut", "classes", "parameters"),
    [
        ("resnet-20", "pad", 10, 269_722),
        ("resnet-56", "pad", 10, 853_018),
        ("resnet-110", "pad", 10, 1_727_962),
        ("resnet-20", "project", 10, 272_474),
        ("resnet-56", "project", 10, 855_770),
        ("resnet-20", "project", 100, 278_324),
        ("resnet-56", "project", 100, 861_620),
        ("resnet-110", "project", 100, 1_736_564),
        ("resnet-8x4", "project", 100, 1_233_540),
        ("resnet-32x4", "project", 100, 7_433_860),
    ],
)
def test_published_parameter_counts(name: str, shortcut: str, classes: int, parameters: int) -> None:
    model = MODELS.parse({"name": name, "shortcut": shortcut})
    assert count_parameters(model.build((3, 32, 32), classes)) == parameters


def test_the_padded_shortcut_keeps_every_second_pixel_and_adds_empty_channels_on_both_sides() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    padded = PadShortcut(missing_channels=2, stride=2)(x)
    assert padded.shape == (1, 4, 2, 2)
    assert torch.equal(padded[0, 1], torch.tensor([[0.0, 2.0], [8.0, 10.0]]))
    assert torch.equal(padded[0, 2], torch.tensor([[16.0, 18.0], [24.0, 26.0]]))
    assert padded[0, 0].eq(0).all()
    assert padded[0, 3].eq(0).all()
