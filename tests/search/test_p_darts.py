"""Progressive DARTS: what its stages search, dropout after skips, and that a killed search ends with the same bits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.component import Facts
from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError
from nasdistill.models.cell_strings import parse_cell
from nasdistill.registry import registry
from nasdistill.search.edges import EDGES
from nasdistill.search.fan import Fan
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.p_darts import PDarts, narrowed
from tests.search.parts import Every, Killed, engine

SPACE = SPACES.parse(
    {
        "name": "custom-nas-bench-201",
        "operations": ["none", "skip_connect", "nor_conv_1x1", "avg_pool_3x3"],
        "nodes": 2,
        "stages": 1,
        "search_channels": 4,
        "channels": 4,
        "cells": 4,
    }
)


@pytest.mark.parametrize(
    ("space", "cells", "operations"),
    [
        ("darts", (5, 11, 17), (8, 5, 3)),  # as published
        ("darts-tiny", (3, 3, 4), (5, 3, 2)),
        ("nas-bench-201", (1, 3, 4), (5, 3, 2)),
        ("s1", (5, 11, 17), (2, 2, 2)),
    ],
)
def test_stages_grow_deeper_and_edges_lose_operations(
    space: str, cells: tuple[int, ...], operations: tuple[int, ...]
) -> None:
    whole, found, strengths = SPACES.parse(space), [], {}
    for stage in PDarts().stages:
        searched = narrowed(whole, stage, strengths)
        strengths = {kind: [dict.fromkeys(names, 1.0) for names in searched.offered(kind)] for kind in whole.kinds}
        found.append((searched.search_cells, len(searched.offered("normal")[0])))
        assert SPACES.parse(searched.spec()) == searched
    assert tuple(zip(*found, strict=True)) == (cells, operations)


def test_the_strongest_operations_stay_in_their_order() -> None:
    stage = PDarts().stages[2]
    edges = [{"none": 0.4, "skip_connect": 0.1, "nor_conv_1x1": 0.1, "avg_pool_3x3": 0.4}] * 2
    strengths = {"normal": [*edges, {"none": 0.1, "skip_connect": 0.2, "nor_conv_1x1": 0.2, "avg_pool_3x3": 0.2}]}
    kept = narrowed(SPACE, stage, strengths).offered("normal")
    assert kept == (("none", "avg_pool_3x3"), ("none", "avg_pool_3x3"), ("skip_connect", "nor_conv_1x1"))


def test_dropout_after_skips_is_of_each_edge_and_fades() -> None:
    """As in the released code: exp(-0.2) with each of 25 epochs, from the end of ten epochs of warm-up on."""
    edges = EDGES.parse({"name": "skip-dropout", "rate": 0.5})
    rates = [edges.rate_at(Moment(epoch / 25, "training")) for epoch in (0, 10, 11, 24)]
    assert rates == [0.5, 0.5, *(pytest.approx(0.5 * math.exp(-0.2 * n)) for n in (1, 14))]
    torch.manual_seed(0)
    fan = edges.fan(SPACE, 4, [SPACE.operations] * 2, stride=1).double()
    dense = Fan(SPACE, 4, [SPACE.operations] * 2, stride=1).double()
    dense.load_state_dict(fan.state_dict())
    state = torch.rand(16, 4, 8, 8, dtype=torch.double) + 1
    weights = torch.rand(2, 4, dtype=torch.double)

    def mixture(half: str, column: int | None = None) -> Mixture:
        own = weights if column is None else weights * torch.eye(4)[column]
        return Mixture("normal", Moment(0.0, half), own, own)

    torch.testing.assert_close(fan(state, mixture("")), dense(state, mixture("")))
    dropped, whole = fan(state, mixture("training", 1)), dense(state, mixture("training", 1))
    assert ((dropped == 0) | torch.isclose(dropped, 2 * whole)).all()
    alike = [float((one == other).double().mean()) for one, other in [(dropped == 0).chunk(2, dim=1)]]
    assert [float((dropped == 0).double().mean()), *alike] == pytest.approx([0.5, 0.5], abs=0.05)
    torch.testing.assert_close(fan(state, mixture("training", 2)), dense(state, mixture("training", 2)))
    reduction = edges.fan(SPACE, 4, [SPACE.operations] * 2, stride=2).double()
    assert torch.equal(*(reduction(state, mixture("training", 1)) for _ in range(2)))


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(32)))


STRATEGY: dict[str, Any] = {"name": "p-darts", "epochs": 7, "batch_size": 8, "warm_up": 0.5}


def test_a_search_goes_through_its_stages_and_a_killed_one_ends_with_the_same_bits(data: Data, tmp_path: Path) -> None:
    strategy = STRATEGIES.parse({**STRATEGY, "selection": {"name": "capped-skips", "skips": 1}})
    unbroken = strategy.search(SPACE, data, engine(), 3, Every(tmp_path / "whole"))
    assert unbroken.metrics["epochs"] == 7
    assert [epoch for epoch, _model in unbroken.history["found"]] == list(range(8))
    curves = unbroken.history["curves"]
    assert [epoch for epoch, _rate in curves["learning rate"]] == list(range(1, 8))
    # Stages of 2, 2 and 3 epochs, each with a cosine of its own, and alphas learn from the second half on.
    assert [rate for _epoch, rate in curves["learning rate"]][::2] == pytest.approx([0.025, 0.025, 0.025, 0.00625])
    assert [epoch for epoch, _loss in curves["validation/loss"]] == [2, 4, 6, 7]
    for row, edge in enumerate(unbroken.strengths["normal"]):
        ends = sorted(points[-1][0] for name, points in curves.items() if name.startswith(f"alpha/normal/{row}/"))
        assert ends == [2, 4, 7, 7]
        assert {name for name in edge if curves[f"alpha/normal/{row}/{name}"][-1][0] == 7} == set(edge)
    rows = parse_cell(unbroken.model["cell"])
    names = [rows[node][state] for state, node in SPACE.edges()]
    assert all(name in edge for name, edge in zip(names, unbroken.strengths["normal"], strict=True))

    for killed_after in (1, 7, 13, 20):
        folder = tmp_path / str(killed_after)
        with pytest.raises(Killed):
            strategy.search(SPACE, data, engine(), 3, Every(folder, killed_after))
        found = strategy.search(SPACE, data, engine(), 3, Every(folder))
        assert (found.model, found.history, found.decisions) == (unbroken.model, unbroken.history, unbroken.decisions)


def test_impossible_stages_are_refused() -> None:
    facts = Facts(classes=10)
    assert list(PDarts().without_effect(facts)) == []
    assert [name for name, _why in STRATEGIES.parse({**STRATEGY, "edges": "partial"}).without_effect(facts)] == [
        "edges"
    ]
    few = STRATEGIES.parse({**STRATEGY, "epochs": 2})
    assert few.reason_to_refuse(SPACE) == "its 3 stages need an epoch each, and there are 2"
    wide = [{"cells": 1, "operations": 1, "edges": {"name": "partial", "divisor": 3}}]
    reason = STRATEGIES.parse({**STRATEGY, "stages": wide}).reason_to_refuse(SPACE)
    assert reason == "its 4 channels do not divide into 3 equal parts of 2 or more"
    for number, shares, words in ((0, [0.5], "has all operations"), (2, [1, 0.5, 0.75], "0.75 of them come after 0.5")):
        with pytest.raises(SpecError, match=words) as caught:
            STRATEGIES.parse({"name": "p-darts", "stages": [{"cells": 1, "operations": share} for share in shares]})
        assert caught.value.path == ("stages", number, "operations")
