"""Wide ResNets against the published counts and the layout of attention transfer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nasdistill.models.base import MODELS
from nasdistill.models.inspection import count_parameters
from nasdistill.models.wrn import Block


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("wrn-16-1", 175_066), ("wrn-16-2", 691_674), ("wrn-40-1", 563_930), ("wrn-40-2", 2_243_546)],
)
def test_published_parameter_counts(name: str, parameters: int) -> None:
    assert count_parameters(MODELS.parse(name).build((3, 32, 32), 10)) == parameters


def test_published_count_of_the_widest() -> None:
    """36.5 million, table 4 of the paper."""
    with torch.device("meta"):
        network = MODELS.parse("wrn-28-10").build((3, 32, 32), 10)
    assert count_parameters(network) / 1e6 == pytest.approx(36.5, abs=0.05)


def test_where_channels_change_branch_and_shortcut_read_the_same_activation() -> None:
    block = Block(2, 3, stride=2, dropout=0.0).eval()
    assert block.shortcut is not None
    x = torch.randn(1, 2, 6, 6)
    before = torch.relu(x / math.sqrt(1 + 1e-5))  # BN with fresh statistics
    middle = torch.relu(nn.functional.conv2d(before, block.conv1.weight, stride=2, padding=1) / math.sqrt(1 + 1e-5))
    expected = nn.functional.conv2d(middle, block.conv2.weight, padding=1) + nn.functional.conv2d(
        before, block.shortcut.weight, stride=2
    )
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_elsewhere_the_raw_input_is_added() -> None:
    block = Block(3, 3, stride=1, dropout=0.0).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(block(x), x)


def test_feature_points_are_raw_sums_not_activations() -> None:
    network = MODELS.parse("wrn-10-1").build((3, 32, 32), 10)
    outputs = []
    network.get_submodule("groups.2").register_forward_hook(lambda _m, _i, output: outputs.append(output))
    network(torch.randn(2, 3, 32, 32))
    assert outputs[0].min() < 0


def test_weights_are_drawn_as_published() -> None:
    torch.manual_seed(0)
    network = MODELS.parse("wrn-16-4").build((3, 32, 32), 10)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            assert float(module.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name
        if isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 0)
    assert torch.all(network.get_submodule("classifier").bias == 0)


def test_dropout_acts_in_training_only() -> None:
    network = MODELS.parse({"name": "wrn-10-1", "dropout": 0.5}).build((1, 8, 8), 4)
    images = torch.randn(4, 1, 8, 8)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))
