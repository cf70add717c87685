"""Random search with weight sharing: what a step computes and changes, and which candidate is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.models.genotypes import DARTS_V1
from nasdistill.registry import registry
from nasdistill.report.sections.trials import SearchTrials
from nasdistill.search.sharing import SharingLearner, only
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from tests.search.parts import Every, Killed, engine

TABLED = {"name": "nas-bench-201", "search_channels": 4, "search_cells": 1, "channels": 4, "cells": 1}
CHAINED = {
    "name": "custom",
    "operations": ["none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"],
    "nodes": 2,
    "search_channels": 4,
    "search_cells": 3,
    "stem_multiplier": 1,
}


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(64)))


def test_a_cell_is_a_mixture_of_its_operations_alone() -> None:
    space = SPACES.parse("darts")
    mixture = only(space, "normal", DARTS_V1.normal, torch.device("cpu"))
    # Eight edges of fourteen, two for each node; the third node reads sep_conv_3x3 of state 1 and skips state 0.
    assert mixture.weights.sum(dim=1).tolist() == [1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0]
    assert [space.operations[row.index(True)] for row in mixture.computed if any(row)] == [
        *("sep_conv_3x3", "sep_conv_3x3", "skip_connect", "sep_conv_3x3"),
        *("skip_connect", "sep_conv_3x3", "sep_conv_3x3", "skip_connect"),
    ]


@pytest.mark.parametrize("space", [TABLED, CHAINED], ids=["nas-bench-201", "darts"])
def test_the_best_candidate_is_kept_and_a_killed_search_ends_the_same(
    space: dict[str, Any], data: Data, tmp_path: Path
) -> None:
    strategy = STRATEGIES.parse({"name": "random-sharing", "epochs": 2, "batch_size": 16, "candidates": 4})
    found = strategy.search(SPACES.parse(space), data, engine(), 3, Every(tmp_path / "whole"))
    trials = found.trials["trials"]
    best = max(range(len(trials)), key=lambda number: (trials[number]["score"], -trials[number]["parameters"]))
    assert found.trials["best"] == best
    assert SearchTrials.model_validate(found.trials).best == best  # so that the page shows them
    assert SPACES.parse(space).model(trials[best]["chosen"]) == found.model
    assert found.metrics["supernet_accuracy"] == trials[best]["score"]
    with pytest.raises(Killed):
        strategy.search(SPACES.parse(space), data, engine(), 3, Every(tmp_path / "killed", 3))
    torch.manual_seed(99)
    again = strategy.search(SPACES.parse(space), data, engine(), 3, Every(tmp_path / "killed"))
    assert (again.model, again.trials) == (found.model, found.trials)


def test_a_step_changes_the_weights_of_the_drawn_operations_and_no_others(data: Data) -> None:
    space = SPACES.parse(TABLED)
    learner: Any = STRATEGIES.parse({"name": "random-sharing", "batch_size": 16}).learner(space, data, engine(), 0)
    assert isinstance(learner, SharingLearner)
    convolved = (("none", 0),), (("none", 0), ("none", 1)), (("nor_conv_1x1", 0), ("none", 1), ("none", 2))
    loss = learner.logits_of({"normal": convolved}, torch.randn(4, *data.shape)).square().mean()
    named = dict(learner.supernet.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    reached = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}
    assert "normal" not in reached
    of_edges = {name for name in reached if ".fans." in name}
    assert of_edges == {f"stages.{stage}.0.fans.0.separate.nor_conv_1x1.convolution.weight" for stage in range(3)}
