"""Perceptrons against the sizes of the reports that use them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.models.base import MODELS


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mlp-1200-1200", 2_392_800),
        ("mlp-800-800", 1_275_200),
        ("mlp-1200-1200-1200", 3_832_800),
        ("mlp-800-800-800", 1_915_200),
        ("mlp-4096-4096", 20_029_440),
        ("mlp-3072-3072", 11_876_352),
    ],
)
def test_published_counts_of_weights_without_biases(name: str, weights: int) -> None:
    with torch.device("meta"):
        network = MODELS.parse(name).build((1, 28, 28), 10)
    assert sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Linear)) == weights


def test_relu_between_layers_and_none_at_the_end() -> None:
    network = MODELS.parse("mlp-5").build((1, 2, 2), 3)
    first, last = (m for m in network.modules() if isinstance(m, nn.Linear))
    x = torch.randn(4, 1, 2, 2)
    hidden = (x.reshape(4, 4) @ first.weight.T + first.bias).clamp(min=0)
    assert torch.allclose(network(x), hidden @ last.weight.T + last.bias, atol=1e-6)


def test_without_hidden_layers_it_is_linear() -> None:
    network = MODELS.parse({"name": "mlp", "hidden": []}).build((1, 2, 2), 3)
    assert sum(p.numel() for p in network.parameters()) == 4 * 3 + 3


def test_dropout_acts_in_training_only() -> None:
    network = MODELS.parse({"name": "mlp-64", "dropout": 0.5}).build((1, 2, 2), 3)
    x = torch.ones(1, 1, 2, 2)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))
