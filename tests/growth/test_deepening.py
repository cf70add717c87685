"""Deeper networks of the same function, for every family with blocks that can pass on what they read."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.growth.deepening import deepened, deepened_to
from nasdistill.growth.plan import growable, with_model
from nasdistill.growth.widening import carried
from nasdistill.models.base import MODELS, NetworkSpec
from tests.growth.parts import draw_norms

MOBILE = {
    "name": "mobilenet",
    "stem": 4,
    "stem_stride": 1,
    "head": 12,
    "stages": [{"width": 4, "expansion": 1}, {"width": 6, "expansion": 3, "depth": 2, "stride": 2}],
}
FAMILIES = ["wrn-10-1", "alfano-wrn-10-1", "resnet-8", {"name": "resnet", "depth": 8, "shortcut": "project"}]


def drawn(model: Any) -> tuple[NetworkSpec, nn.Module]:
    """A network in double precision whose every statistic is drawn."""
    spec = NetworkSpec(model=MODELS.parse(model), shape=(3, 8, 8), classes=5)
    torch.manual_seed(0)
    network = spec.build().double().eval()
    draw_norms(network)
    return spec, network


@pytest.mark.parametrize("model", [*FAMILIES, "densenet-10-4", MOBILE], ids=str)
def test_more_blocks_compute_the_same_and_learn(model: Any) -> None:
    spec, network = drawn(model)
    family = growable(spec)
    deeper = with_model(spec, family.with_blocks((family.blocks() or 0) + 2))
    grown = deepened(spec, network, deeper)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    expected = network(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(grown(images), expected, rtol=1e-9, atol=1e-9)
    grown.train()(images).square().sum().backward()
    silent = growable(deeper).identity_weights() or ()
    new = {name: each for name, each in grown.named_parameters() if name not in dict(network.named_parameters())}
    assert new
    ends = [weight for name, weight in new.items() if any(fnmatch(name, each) for each in silent)]
    if silent:
        assert ends
        assert all(not end.any() and end.grad.any() for end in ends)  # no block is dead
    else:  # what reads the new channels learns first
        reader = grown.get_parameter("classifier.weight")
        assert (reader == 0).any()
        assert reader.grad is not None
        assert reader.grad[reader == 0].all()


def test_deeper_and_wider_at_once() -> None:
    spec, network = drawn("wrn-10-1")
    other = NetworkSpec(
        model=MODELS.parse({"name": "wrn", "depth": 22, "width": 1, "widths": [20, 20, 40, 70]}),
        shape=(3, 8, 8),
        classes=5,
    )
    grown = carried(*deepened_to(other, spec, network), other)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(grown(images), network(images), rtol=1e-9, atol=1e-9)


CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"


@pytest.mark.parametrize("model", ["darts-v2-4-3", {"name": "nas-bench-201", "cell": CELL, "cells": 1, "channels": 4}])
def test_cells_that_pass_on_nothing_are_refused(model: Any) -> None:
    spec, network = drawn(model)
    family = growable(spec)
    deeper = with_model(spec, family.with_blocks((family.blocks() or 0) + 1))
    with pytest.raises(UserError, match="cannot pass on what they read, so that none can be added"):
        deepened(spec, network, deeper)
