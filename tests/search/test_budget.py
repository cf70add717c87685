"""Searches within a budget: the term of the architecture's loss, the sizes that follow, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError
from nasdistill.growth.budget import Budget, OverBudget
from nasdistill.growth.plan import size
from nasdistill.models.base import NetworkSpec
from nasdistill.registry import build, registry
from nasdistill.search.budgeted import check_space, in_size, uniform_cell
from nasdistill.search.expected_cost import ExpectedCost
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.stages.search import Search
from tests.search.parts import engine

CELLS = {"name": "darts-tiny", "nodes": 2, "cells": 3, "search_cells": 3, "channels": 4, "search_channels": 4}
SUMMED = {"name": "nas-bench-201", "nodes": 2, "stages": 2, "cells": 1, "search_cells": 1, "channels": 4}


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(64)))


def parameters(model: dict[str, Any], data: Data) -> int:
    return size(NetworkSpec.for_data(model, data), "params")


def test_the_expected_cost_of_decided_edges_is_that_of_the_network(data: Data) -> None:
    """Every edge of a summed cell is kept, so that the expectation of one-hot weights is the cost itself."""
    space = SPACES.parse(SUMMED)
    names = ("nor_conv_3x3", "skip_connect", "nor_conv_1x1")
    cost = ExpectedCost(space, Budget(parameters=1000, multiply_adds=10**9), data, torch.device("cpu"))
    weights = torch.tensor([[float(each == name) for each in space.operations] for name in names])
    mixture = Mixture("normal", Moment(), weights, weights)
    chosen = {"0/0": names[0], "1/0": names[1], "1/1": names[2]}
    expected = parameters(space.model(chosen), data) / 1000
    assert float(cost.share([mixture])) == pytest.approx(expected, rel=1e-5)
    assert float(cost.excess([mixture])) == pytest.approx(max(0, expected - 1), rel=1e-5)


@pytest.mark.parametrize("operation", ["skip_connect", "sep_conv_5x5"])
def test_an_operation_costs_the_same_wherever_an_edge_lists_it(operation: str, data: Data) -> None:
    edges = len(SPACES.parse("darts-tiny").edges())
    rows = [["skip_connect", "sep_conv_5x5"][:: 1 if edge % 2 else -1] for edge in range(edges)]
    of_edges = dict.fromkeys(("normal", "reduce"), rows)
    names = ["skip_connect", "sep_conv_5x5", "none"]
    space = SPACES.parse({"name": "darts-tiny", "operations": names, "edge_operations": of_edges})
    cost = ExpectedCost(space, Budget(parameters=10_000), data, torch.device("cpu"))
    weights = torch.tensor([[float(each == operation) for each in row] for row in rows])
    cells = {kind: uniform_cell(space, operation) for kind in space.kinds}
    found = float(cost.share([Mixture(kind, Moment(), weights, weights) for kind in space.kinds]))
    assert found == pytest.approx(parameters(space.model_of(cells), data) / 10_000, rel=1e-5)


def test_the_term_pulls_towards_cheap_operations_only_above_the_budget(data: Data) -> None:
    space = SPACES.parse(CELLS)
    rows, columns = len(space.edges()), len(space.operations)
    for limit, pulls in ((100, True), (10**6, False)):
        cost = ExpectedCost(space, Budget(parameters=limit), data, torch.device("cpu"))
        alphas = torch.zeros(rows, columns, requires_grad=True)
        weights = alphas.softmax(dim=1)
        cost.excess([Mixture(kind, Moment(), alphas, weights) for kind in space.kinds]).backward()  # type: ignore[no-untyped-call]
        assert alphas.grad is not None
        by_name = dict(zip(space.operations, alphas.grad.sum(dim=0).tolist(), strict=True))
        assert (by_name["sep_conv_3x3"] > 0 > by_name["skip_connect"]) == pulls
        assert by_name["none"] == pytest.approx(0, abs=1e-6), "no network keeps it"


def test_a_strong_term_makes_the_search_cheaper(data: Data) -> None:
    def share(weight: float) -> float:
        options = {"name": "darts", "epochs": 2, "batch_size": 8, "alpha_lr": 0.3, "budget": 3000}
        strategy = STRATEGIES.parse({**options, "budget_weight": weight})
        found = strategy.search(SPACES.parse({**CELLS, "channels": 16}), data, engine(), 0)
        assert 0.95 * 3000 < parameters(found.model, data) <= 3000
        return float(found.history["curves"].get("share of the budget/expected", [[0, 0]])[-1][1])

    assert 0 < share(10.0) < 0.8 * share(1e-6)


def test_sizes_follow_from_the_budget_where_the_space_is_silent(data: Data) -> None:
    small, large = (in_size(SPACES.parse("darts-tiny"), Budget(parameters=limit), data) for limit in (3000, 100_000))
    assert small.cells < large.cells == 5
    assert large.channels > 12
    assert large.search_channels > small.search_channels == 8
    own = in_size(SPACES.parse(CELLS), Budget(parameters=100_000), data)
    assert own == SPACES.parse(CELLS)
    mobile = SPACES.parse("mobilenet-tiny")
    assert in_size(mobile, Budget(parameters=100), data) is mobile


@pytest.mark.parametrize("space", ["darts-tiny", "nas-bench-201", "mobilenet-tiny"])
def test_a_budget_that_no_network_of_a_space_keeps_is_refused(space: str, data: Data) -> None:
    with pytest.raises(OverBudget, match=r"times the limit of 20$"):
        check_space(SPACES.parse(space), Budget(parameters=20), data)
    check_space(SPACES.parse(space), Budget(parameters=2000), data)


def test_candidates_of_trials_are_scaled(data: Data) -> None:
    options = {"trials": 3, "population": 2, "sample": 1, "epochs": 1, "batch_size": 32}
    found = STRATEGIES.parse({"name": "evolution", **options, "budget": 3000}).search(
        SPACES.parse(CELLS), data, engine(), 0
    )
    assert all(0.95 * 3000 < trial["parameters"] <= 3000 for trial in found.trials["trials"])
    assert parameters(found.model, data) == found.trials["trials"][found.trials["best"]]["parameters"]


def test_a_budget_is_given_once() -> None:
    stage = build(Search, {"space": "darts-tiny", "strategy": "random", "budget": "3k"})
    assert stage.strategy.budget == Budget(parameters=3000)
    with pytest.raises(SpecError, match="the strategy has another budget; give it once"):
        build(Search, {"space": "darts-tiny", "strategy": {"name": "random", "budget": "4k"}, "budget": "3k"})
    race = {"space": "darts-tiny", "strategy": "successive-halving", "keep_weights": True}
    with pytest.raises(SpecError, match="weights cannot be kept within a budget of bytes or latency"):
        build(Search, {**race, "budget": {"bytes": "1MB"}})
    with pytest.raises(SpecError, match="the budget changes the widths of the network that is found"):
        build(Search, {"space": "darts-tiny", "strategy": "darts", "keep_weights": True, "budget": "3k"})
