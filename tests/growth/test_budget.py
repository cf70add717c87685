"""Budgets: what they accept, what the costs are, and that the largest network within them is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import SpecError, UserError
from nasdistill.growth import budget as budgets
from nasdistill.growth.budget import Budget
from nasdistill.growth.plan import size, with_width
from nasdistill.models import onnx_costs
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.inspection import count_parameters
from nasdistill.models.peak_activation import peak_activation
from nasdistill.registry import build

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"
FAMILIES: dict[str, str | dict[str, Any]] = {
    "wrn": "wrn-10-1",
    "alfano-wrn": "alfano-wrn-10-1",
    "resnet": "resnet-8",
    "densenet": "densenet-10-12",
    "mlp": "mlp-50-50",
    "darts": "darts-v2-8-3",
    "nas-bench-201": {"name": "nas-bench-201", "cell": CELL, "cells": 1},
    "mobilenet": {"name": "mobilenet", "stem": 8, "stages": [{"width": 8}, {"width": 12, "depth": 2}], "head": 32},
}


def spec_of(model: str | dict[str, Any], shape: tuple[int, int, int] = (1, 8, 8)) -> NetworkSpec:
    return NetworkSpec(model=MODELS.parse(model), shape=shape, classes=10)


def budget(limits: Any) -> Budget:
    return Budget.model_validate(limits)


def test_limits_are_numbers_as_people_write_them() -> None:
    given = {"parameters": "300k", "multiply_adds": "2.5M", "bytes": "1 MB", "peak_activation": "2KiB"}
    assert budget(given).limits() == {
        "parameters": 300_000,
        "multiply_adds": 2_500_000,
        "bytes": 1_000_000,
        "peak_activation": 2048,
    }
    assert build(Budget, {"multiply_adds": "40G"}).multiply_adds == 40_000_000_000
    assert budget("20k") == budget(20_000) == budget({"parameters": 20_000})


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"parameters": "300q"}, "must be a number such as 300000, 300k or 20M, got '300q'"),
        ({"parameters": "300kB"}, "must be a number such as"),
        ({"bytes": "many"}, "must be a size such as 1000000, 512kB, 1MB or 1MiB, got 'many'"),
        ({"parameters": 0}, "must be greater than 0"),
        ({"latency_ms": -1}, "must be greater than 0"),
        ({"parameter": 5}, "did you mean 'parameters'"),
        ({}, "a budget limits something: parameters, multiply_adds, bytes, peak_activation, latency_ms"),
    ],
)
def test_what_is_no_budget_is_one_sentence(limits: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        build(Budget, limits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_scaled_to_a_number_of_parameters(family: str) -> None:
    spec = spec_of(FAMILIES[family])
    half, twice = size(spec, "params") // 2, 2 * size(spec, "params")
    for limit in (half, twice):
        found = budget(limit).fitted(spec)
        parameters = count_parameters(found.build())
        assert parameters <= limit
        # nothing is left over that one more channel of any unit would need
        wider = (with_width(found, unit.name, unit.width + unit.multiple) for unit in found.model.units())
        assert parameters >= 0.97 * limit or all(size(each, "params") > limit for each in wider)
        assert budget(limit).fitted(found) == found


def test_several_limits_hold_together() -> None:
    spec = spec_of("wrn-10-1")
    limits = budget({"parameters": "60k", "multiply_adds": "400k", "peak_activation": "20kB"})
    needs = limits.measured(limits.fitted(spec))
    assert needs["parameters"] <= 60_000
    assert 0.97 * 400_000 < needs["multiply_adds"] <= 400_000
    assert needs["peak_activation"] <= 20_000


def test_blocks_are_taken_away_where_a_network_would_be_too_narrow() -> None:
    spec = spec_of("wrn-40-1")
    assert budget("20k").fitted(spec).model.blocks() == 6
    shallower = budget("20k").fitted(spec, narrowest=8).model
    assert shallower.blocks() == 1
    assert shallower.base_width() >= 8


def test_a_budget_that_nothing_keeps_tells_the_limit_and_the_smallest_network() -> None:
    with pytest.raises(UserError, match=r"smallest network of 'mlp' .* 85 parameters, 1.7 times the limit of 50"):
        budget(50).fitted(spec_of("mlp-50"))
    with pytest.raises(UserError, match=r"'maxout', whose widths cannot change, is too large .* the limit of 1 B"):
        budget({"peak_activation": 1}).fitted(spec_of("fitnet-1", (3, 32, 32)))


class Branches(nn.Module):
    """A path that stays alive beside two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.narrow = nn.Conv2d(8, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = functional.relu(self.norm(self.wide(images)))
        return self.narrow(features).sum((1, 2, 3)) + images.flatten(1).sum(1)


def test_peak_activation_is_what_is_alive_at_once() -> None:
    # Of 16 pixels: the image, which is read last, 8 channels, over which norm and ReLU write, and 2 of the next one.
    assert peak_activation(Branches().eval(), (1, 4, 4)) == 4 * 16 * (1 + 8 + 2)
    # Raw input for the shortcut, its activated copy, and the output, of 16 channels each.
    wrn = spec_of("wrn-10-1", (3, 32, 32))
    assert peak_activation(wrn.build().eval(), wrn.shape) == 4 * 3 * 16 * 32 * 32


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Hardswish(), nn.PReLU()])
def test_activations_write_over_what_they_read_and_pools_keep_no_places_of_maxima(activation: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), activation, nn.MaxPool2d(3, 1, padding=1))
    assert peak_activation(network.eval(), (1, 4, 4)) == 4 * 16 * (8 + 8)


def test_a_network_that_resizes_needs_what_it_needs_at_its_own_size() -> None:
    small, resized = spec_of("wrn-10-1", (3, 16, 16)), spec_of("wrn-10-1@16", (3, 64, 64))
    limits = budget({"peak_activation": "1MB", "multiply_adds": "1G"})
    assert limits.measured(resized) == limits.measured(small)


def test_bytes_and_latency_are_those_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Estimates miss both here; the network that is found keeps the limits all the same."""

    def estimated(spec: NetworkSpec) -> tuple[int, float]:
        return 4 * size(spec, "params") + 1000, size(spec, "params") / 1000

    def exported(spec: NetworkSpec) -> tuple[int, float]:
        return 4 * size(spec, "params") + 3000, size(spec, "params") / 900

    monkeypatch.setattr(onnx_costs, "estimated_costs", estimated)
    monkeypatch.setattr(onnx_costs, "exported_costs", exported)
    budgets._fitted.cache_clear()
    found, needs = budget({"bytes": "23kB"}).settled(spec_of("wrn-10-1"))
    assert 0.97 * 5000 < size(found, "params") <= 5000
    assert needs == {"bytes": exported(found)[0]}
    # of a file that is smaller than estimated nothing is left over
    monkeypatch.setattr(onnx_costs, "exported_costs", lambda spec: (4 * size(spec, "params") + 100, 1.0))
    found, needs = budget({"bytes": "10kB"}).settled(spec_of("wrn-10-1"))
    assert 0.97 * 10_000 < needs["bytes"] <= 10_000
    monkeypatch.setattr(onnx_costs, "exported_costs", exported)
    found, needs = budget({"latency_ms": 20}).settled(spec_of("wrn-10-1"))
    assert 17 < needs["latency_ms"] <= 20
    # a machine that is as slow whatever the network: the smallest is not what was tried last
    monkeypatch.setattr(onnx_costs, "exported_costs", lambda spec: (1, 1.02))
    with pytest.raises(
        UserError, match=r"the last of 5 that were measured has .* parameters and a latency of 1.02 ms, 1.0"
    ):
        budget({"latency_ms": 1}).settled(spec_of("mlp-50"))
    budgets._fitted.cache_clear()


def test_a_file_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_costs, "_table", lambda: tmp_path)
    spec = spec_of("mlp-5")
    first = onnx_costs.estimated_costs(spec)
    assert first[0] > 4 * size(spec, "params")
    assert first[1] > 0
    assert onnx_costs.estimated_costs(spec) == first
    assert len([*tmp_path.iterdir()]) == 1


def test_a_binary_family_is_scaled_too() -> None:
    spec = NetworkSpec(model=MODELS.parse({"name": "wrn-10-1", "binary": "weights"}), shape=(1, 8, 8), classes=10)
    found = Budget(parameters=20_000).fitted(spec)
    assert found.model.binary == "weights"
    assert 19_000 < count_parameters(found.build()) <= 20_000
