"""Successors of DARTS have the settings that they were published with, and warm up as long as they say."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError
from nasdistill.registry import registry
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.darts import DartsSearch
from tests.search.parts import Every, Killed, engine

SPACE = SPACES.parse({"name": "nas-bench-201", "search_channels": 4, "search_cells": 1, "channels": 4, "cells": 1})

PUBLISHED: dict[str, dict[str, Any]] = {
    "pc-darts": {"epochs": 50, "batch_size": 256, "lr": 0.1, "lr_end": 0.0, "alpha_lr": 6e-4, "warm_up": 0.3},
    "gdas": {"epochs": 250, "batch_size": 64, "lr": 0.025, "lr_end": 0.001, "alpha_lr": 3e-4},
    "snas": {"epochs": 150, "batch_size": 64, "lr": 0.025, "lr_end": 0.0, "alpha_lr": 3e-4},
    "drnas": {"epochs": 100, "batch_size": 64, "lr": 0.025, "lr_end": 0.001, "alpha_lr": 3e-4},
    "beta-darts": {"epochs": 50, "batch_size": 64, "lr": 0.025, "lr_end": 0.001, "alpha_lr": 3e-4},
    "fair-darts": {"epochs": 50, "batch_size": 128, "lr": 0.005, "lr_end": 0.001, "alpha_lr": 3e-3},
    "sdarts": {"epochs": 50, "batch_size": 64, "lr": 0.025, "lr_end": 0.001, "alpha_lr": 3e-4},
    "p-darts": {"epochs": 75, "batch_size": 96, "lr": 0.025, "lr_end": 0.0, "alpha_lr": 6e-4, "warm_up": 0.4},
}
HELD = {"hold": 0.4, "decay": 5.0}
"""Ten of 25 epochs, and then e^-0.2 an epoch."""
PARTS: dict[str, dict[str, Any]] = {
    "pc-darts": {"edges": {"name": "partial", "divisor": 4}, "edge_normalisation": True},
    "gdas": {"sampler": {"name": "gumbel", "hard": True, "temperature": 10.0, "temperature_end": 0.1}},
    "snas": {"sampler": {"name": "gumbel", "hard": False, "temperature": 1.0, "temperature_end": 0.03}},
    "drnas": {"sampler": {"name": "dirichlet"}},
    "beta-darts": {"regularisers": [{"name": "beta-decay", "weight": 50.0}]},
    "fair-darts": {"sampler": {"name": "sigmoid"}, "regularisers": [{"name": "zero-one", "weight": 10.0}]},
    "sdarts": {"sampler": {"name": "perturbed", "radius": 0.03, "radius_end": 0.3}},
    "p-darts": {
        "selection": {"name": "capped-skips", "skips": 2},
        "stages": [
            {"cells": 0.25, "operations": 1.0, "edges": {"name": "dense"}},
            {"cells": 0.55, "operations": 0.625, "edges": {"name": "skip-dropout", **HELD, "rate": 0.4}},
            {"cells": 0.85, "operations": 0.375, "edges": {"name": "skip-dropout", **HELD, "rate": 0.7}},
        ],
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_settings_are_the_published_ones_and_all_else_is_that_of_darts(name: str) -> None:
    spec = STRATEGIES.parse(name).spec()
    assert {key: spec[key] for key in PUBLISHED[name]} == PUBLISHED[name]
    ours = DartsSearch().spec() | {"name": name} | PUBLISHED[name]
    assert spec == ours | {key: spec[key] for key in PARTS[name]}
    for key, value in PARTS[name].items():
        assert spec[key] == value


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(64)))


@pytest.mark.parametrize(("warm_up", "epochs_without"), [(0.3, 0), (0.34, 1), (0.67, 2)])
def test_alphas_stay_while_the_weights_warm_up(data: Data, warm_up: float, epochs_without: int) -> None:
    strategy = STRATEGIES.parse({"name": "darts", "epochs": 3, "batch_size": 32, "warm_up": warm_up})
    curves = strategy.search(SPACE, data, engine(), 3).history["curves"]
    alphas = [value for _epoch, value in curves["alpha/normal/0/nor_conv_3x3"]]
    moved = [one != other for one, other in itertools.pairwise(alphas)]
    assert moved == [False] * epochs_without + [True] * (3 - epochs_without)
    assert [epoch for epoch, _value in curves["validation/loss"]] == list(range(epochs_without + 1, 4))
    assert len(curves["train/loss"]) == 3


def test_a_search_that_was_killed_after_its_warm_up_ends_with_the_same_bits(data: Data, tmp_path: Path) -> None:
    strategy = STRATEGIES.parse({"name": "pc-darts", "epochs": 2, "batch_size": 16, "edges": "dense", "warm_up": 0.5})
    unbroken = strategy.search(SPACE, data, engine(), 3, Every(tmp_path / "whole"))
    with pytest.raises(Killed):
        strategy.search(SPACE, data, engine(), 3, Every(tmp_path / "killed", 4))
    found = strategy.search(SPACE, data, engine(), 3, Every(tmp_path / "killed"))
    assert (found.model, found.history) == (unbroken.model, unbroken.history)


def test_the_rate_of_alphas_follows_from_how_far_they_may_move(data: Data) -> None:
    options = {"name": "darts", "epochs": 2, "batch_size": 16, "warm_up": 0.5, "alpha_weight_decay": 0.0}
    found = STRATEGIES.parse({**options, "alpha_travel": 3}).search(SPACE, data, engine(), 3)
    # Two steps move alphas in the second of two epochs.
    same = STRATEGIES.parse({**options, "alpha_lr": 1.5}).search(SPACE, data, engine(), 3)
    other = STRATEGIES.parse({**options, "alpha_lr": 1.4}).search(SPACE, data, engine(), 3)
    assert found.history == same.history != other.history


def test_alphas_have_one_rate() -> None:
    with pytest.raises(SpecError, match="alpha_lr and alpha_travel both set the rate"):
        STRATEGIES.parse({"name": "darts", "alpha_lr": 1e-3, "alpha_travel": 6})
