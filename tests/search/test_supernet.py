"""The fused supernet against one that computes edge by edge."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nasdistill.errors import UserError
from nasdistill.models.operations import OPERATIONS, Operation
from nasdistill.search.spaces import SPACES
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.supernet import Supernet
from tests.search.reference import PlainSupernet, pairs

ALL = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"]
ALL += ["dil_conv_3x3", "dil_conv_5x5"]


class Conv1x1(Operation):
    """What a plugin might add."""

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        convolution = nn.Conv2d(channels, channels, 1, stride, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(channels, affine=affine), nn.Tanh())


@pytest.fixture(autouse=True)
def _plugin_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    OPERATIONS.names()
    monkeypatch.setattr(OPERATIONS, "_components", {name: OPERATIONS.get(name) for name in OPERATIONS.loaded()})
    OPERATIONS.register("test_conv_1x1")(Conv1x1)


def twins(space: CellSpace, shape: tuple[int, int, int]) -> tuple[Supernet, PlainSupernet]:
    torch.manual_seed(0)
    fused = Supernet(space, shape, 5).double()
    plain = PlainSupernet(space, shape, 5).double()
    copied = []
    with torch.no_grad():
        for one, parts in pairs(plain, fused, space):
            one.copy_(torch.cat(parts))
            copied.append(one)
        for alpha, other in zip(fused.alphas(), (plain.normal, plain.reduce), strict=True):
            alpha.normal_()
            other.copy_(alpha)
    assert {id(parameter) for parameter in copied} == {id(parameter) for parameter in fused.parameters()}
    return fused, plain


@pytest.mark.parametrize(
    ("operations", "channels", "side"),
    [
        (ALL, 4, 8),
        (ALL, 4, 9),  # odd sides at every stride
        (["skip_connect", "sep_conv_3x3", "none"], 3, 7),  # odd channels
        (["test_conv_1x1", "none", "avg_pool_3x3", "dil_conv_3x3"], 2, 8),  # a plugin's operation among ours
        (["max_pool_3x3"], 2, 6),
    ],
)
def test_outputs_and_gradients_are_those_of_the_plain_supernet(operations, channels: int, side: int) -> None:
    space = SPACES.parse(
        {
            "name": "custom",
            "operations": operations,
            "nodes": 3,
            "search_channels": channels,
            "search_cells": 4,
            "stem_multiplier": 2,
        }
    )
    fused, plain = twins(space, (2, side, side))
    images = torch.randn(3, 2, side, side, dtype=torch.double)
    outputs = fused(images), plain(images)
    torch.testing.assert_close(*outputs)
    direction = torch.randn_like(outputs[0])
    for output in outputs:
        (output * direction).sum().backward()
    for one, parts in pairs(plain, fused, space):
        torch.testing.assert_close(one.grad, torch.cat([part.grad for part in parts]))


def test_the_published_parameter_count() -> None:
    supernet = Supernet(SPACES.parse("darts"), (3, 32, 32), 10)
    assert sum(weight.numel() for weight in supernet.weights()) == 1_930_618
    assert [tuple(alpha.shape) for alpha in supernet.alphas()] == [(14, 8), (14, 8)]
    assert all(float(alpha.detach().abs().max()) < 1e-2 for alpha in supernet.alphas())


def test_weights_and_alphas_are_all_parameters() -> None:
    supernet = Supernet(SPACES.parse("darts-tiny"), (1, 8, 8), 10)
    parts = {id(parameter) for parameter in [*supernet.weights(), *supernet.alphas()]}
    assert len(parts) == len(supernet.weights()) + 2 == len(list(supernet.parameters()))


def test_no_statistics_are_kept() -> None:
    """So neither evaluation mode nor earlier batches matter, and a plugin's batch norm is no exception."""
    space = SPACES.parse({"name": "darts-tiny", "operations": ["test_conv_1x1", "sep_conv_3x3"], "search_cells": 3})
    supernet = Supernet(space, (1, 8, 8), 10)
    images = torch.randn(4, 1, 8, 8)
    first = supernet(images)
    supernet(torch.randn(4, 1, 8, 8))
    torch.testing.assert_close(supernet.eval()(images), first)
    assert list(supernet.buffers()) == []


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (3, 32, 32)])
def test_any_image_shape(shape: tuple[int, int, int]) -> None:
    assert Supernet(SPACES.parse("darts-tiny"), shape, 7)(torch.randn(2, *shape)).shape == (2, 7)


class Doubling(Operation):
    """What cannot stand beside others on an edge."""

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.Conv2d(channels, 2 * channels, 3, stride, padding=1)


def test_an_operation_that_cannot_be_mixed_is_refused() -> None:
    OPERATIONS.register("test_doubling")(Doubling)
    space = SPACES.parse({"name": "darts-tiny", "operations": ["skip_connect", "test_doubling"]})
    message = r"'test_doubling' \(.*test_supernet.py, line \d+\) cannot be mixed with others: at stride 1 it makes "
    with pytest.raises(UserError, match=message + r"\[2, 16, 8, 8\] of a state of \[2, 8, 8, 8\]"):
        Supernet(space, (1, 8, 8), 10)


def test_search_channels_must_be_more_than_one() -> None:
    with pytest.raises(ValidationError):
        SPACES.get("darts-tiny")(search_channels=1)
