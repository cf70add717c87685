"""Search by a race: who goes on, on what it is judged, what is resumed, and when chance decided."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import UserError
from nasdistill.growth.plan import size
from nasdistill.models.base import NetworkSpec
from nasdistill.registry import registry
from nasdistill.search.race import Racer, lead
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES, SearchResult
from nasdistill.training.checkpoints import Checkpoints
from tests.search.parts import Every, Killed, engine

SPACE = SPACES.parse({"name": "nas-bench-201", "channels": 4, "cells": 1, "search_channels": 4, "search_cells": 1})
TINY = {"name": "successive-halving", "candidates": 3, "batch_size": 32}


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(64)))


def search(data: Data, checkpoints: Checkpoints | None = None, **options: Any) -> SearchResult:
    found: SearchResult = STRATEGIES.parse({**TINY, **options}).search(SPACE, data, engine(), 3, checkpoints)
    return found


@pytest.mark.parametrize(
    ("candidates", "epochs", "rounds"),
    [(8, 1, [(8, 1), (4, 2), (2, 4)]), (5, 3, [(5, 3), (3, 6), (2, 12)]), (2, 1, [(2, 1)])],
)
def test_half_as_many_train_for_twice_as_long(candidates: int, epochs: int, rounds: list[tuple[int, int]]) -> None:
    strategy = STRATEGIES.parse({"name": "successive-halving", "candidates": candidates, "epochs": epochs})
    assert strategy.rounds() == rounds


def test_a_race_that_is_killed_ends_as_an_unbroken_one(data: Data, tmp_path: Path) -> None:
    whole = search(data)
    # Three racers of two steps, then two of two more: in the midst of the last round.
    with pytest.raises(Killed):
        search(data, Every(tmp_path, killed_after=7))
    assert search(data, Every(tmp_path)) == whole
    trials = whole.trials["trials"]
    assert sorted(len(trial["curve"]) for trial in trials) == [1, 2, 2]
    assert len(trials[whole.trials["best"]]["curve"]) == 2
    assert whole.metrics["epochs"] == 5
    epochs = [epoch for epoch, _model in whole.history["found"]]
    assert (epochs[0], epochs[-1]) == (1, 5)
    assert set(epochs) <= {1, 2, 3, 5}, "the last round counts once both are as far"
    assert whole.history["found"][0][1] == SPACE.model(trials[0]["chosen"])
    assert whole.history["found"][-1][1] == whole.model


def test_all_networks_have_the_size_that_is_asked_for(data: Data) -> None:
    found = search(data, candidates=2, budget=4000)
    assert all(0.95 < trial["parameters"] / 4000 <= 1 for trial in found.trials["trials"])
    drawn = STRATEGIES.parse({"name": "random", "budget": 4000}).search(SPACE, data, engine(), 3)
    for model in (found.model, drawn.model):
        assert 0.95 < size(NetworkSpec.for_data(model, data), "params") / 4000 <= 1


def test_the_loss_decides_and_what_diverges_is_last(data: Data) -> None:
    spec = NetworkSpec.for_data({"name": "mlp", "hidden": [4]}, data)
    one, other = (Racer(n, {}, spec, registry("optimizers").parse("sgd"), 0, engine()) for n in range(2))
    for racer, offsets in ((one, (0.0, 0.1, 0.3)), (other, (0.5, 0.5, 0.7))):
        racer.seen = [(9.0, 0.0)] * 3 + [(1 + offset, 0.5) for offset in offsets]
        racer.means = [(9.0, 0.0), (1.0, 0.5)]
    # Differences of 0.5, 0.4 and 0.4 in the last epoch that both had.
    margin, noise = lead(one, other)
    assert margin == pytest.approx(1.3 / 3)
    variance = ((0.2 / 3) ** 2 + 2 * (0.1 / 3) ** 2) / 2
    assert noise == pytest.approx(math.sqrt(variance / 3), rel=1e-5)
    assert one.loss(0, 2) == 5.0
    assert one.loss(1, 2) == 1.0
    one.means[-1] = (math.nan, 0.1)
    assert (one.loss(0, 1), one.loss(1, 2), one.loss(2, 4)) == (9.0, math.inf, math.inf)
    assert (one.trial()["score"], one.trial()["stopped"]) == (None, "diverged")


def test_where_all_diverge_that_is_said(data: Data) -> None:
    with pytest.raises(UserError, match="all of 2 architectures diverged"):
        search(data, candidates=2, optimizer={"name": "sgd", "lr": 1e30}, clip=None)
