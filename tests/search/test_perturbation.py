"""Selection by perturbation: what is removed, what is kept, and that decided edges carry one operation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.models.cell_strings import parse_cell
from nasdistill.models.genotypes import Genotype
from nasdistill.registry import registry
from nasdistill.search.mixture import Moment
from nasdistill.search.perturbation import Perturbation
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.supernets import supernet_of
from tests.search.parts import engine

TABLED = SPACES.parse(
    {
        "name": "custom-nas-bench-201",
        "operations": ["none", "skip_connect", "nor_conv_1x1"],
        "nodes": 2,
        "stages": 1,
        "search_channels": 2,
        "search_cells": 1,
    }
)
CHAINED = SPACES.parse(
    {
        "name": "custom",
        "operations": ["none", "skip_connect", "sep_conv_3x3"],
        "nodes": 2,
        "search_channels": 4,
        "search_cells": 3,
        "stem_multiplier": 1,
    }
)


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(32)))


@pytest.mark.parametrize(
    "options", [{}, {"sampler": "gumbel"}, {"selection": {"name": "darts-pt", "tuning_epochs": 0}}]
)
def test_what_is_found_is_what_the_edges_offer(data: Data, options: dict[str, Any]) -> None:
    some = [["skip_connect", "nor_conv_1x1"], ["nor_conv_1x1", "none"], ["none", "skip_connect"]]
    space = SPACES.parse({**TABLED.spec(), "edge_operations": {"normal": some}})
    found = STRATEGIES.parse({"name": "darts", "epochs": 1, "batch_size": 8, **options}).search(
        space, data, engine(), 0
    )
    rows = parse_cell(found.model["cell"])
    offered = dict(zip(space.edges(), some, strict=True))
    assert all(rows[node][state] in names for (state, node), names in offered.items())
    assert [{each["kept"], each["next"]} for each in found.decisions] == [set(names) for names in some]
    curves = {name for name in found.history["curves"] if name.startswith("alpha/normal/1/")}
    assert curves == {"alpha/normal/1/nor_conv_1x1", "alpha/normal/1/none"}


def test_decided_edges_carry_one_operation_or_none_and_the_others_their_mixture() -> None:
    supernet = supernet_of(TABLED, (1, 8, 8), 10)
    free = supernet.mixture(Moment())[0].weights
    supernet.decided = {("normal", 0): 2, ("normal", 2): None}
    assert supernet.mixture(Moment())[0].weights.tolist() == [[0, 0, 1], free[1].tolist(), [0, 0, 0]]


# What each edge and operation of the normal cell is worth; the reduction cell's are all equal.
WORTH = {0: [9, 1, 2], 1: [9, 5, 4], 2: [0, 3, 1], 3: [0, 1, 2], 4: [0, 7, 8]}


def test_what_hurts_most_is_kept(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    learner: Any = STRATEGIES.parse({"name": "darts"}).learner(CHAINED, data, engine(), 0)

    def without(_self: Perturbation, kind: str, row: int, column: int | None = None) -> float:
        worth = 0 if kind == "reduce" else (sum(WORTH[row][1:]) if column is None else WORTH[row][column])
        return 100.0 - worth

    monkeypatch.setattr(Perturbation, "without", without)
    monkeypatch.setattr(Perturbation, "tune", lambda _self: None)
    cells = Perturbation(learner, 0).cells()
    # `none` is no outcome here, whatever it is worth. The second node's edges are worth 4, 3 and 15.
    assert cells["normal"] == (
        (("sep_conv_3x3", 0), ("skip_connect", 1)),
        (("skip_connect", 0), ("sep_conv_3x3", 2)),
    )


@pytest.mark.parametrize(("space", "tuning_epochs"), [(TABLED, 1), (CHAINED, 0)])
def test_a_search_ends_with_what_the_supernet_decided(data: Data, space: Any, tuning_epochs: int) -> None:
    selection = {"name": "darts-pt", "tuning_epochs": tuning_epochs}
    strategy = STRATEGIES.parse({"name": "darts", "epochs": 1, "batch_size": 16, "selection": selection})
    found, again = (strategy.search(space, data, engine(), 3) for _ in range(2))
    assert found.model == again.model
    if space is CHAINED:
        cells = Genotype.model_validate(found.model["genotype"])
        assert [len(node) for cell in (cells.normal, cells.reduce) for node in cell] == [2] * 4
    else:
        assert found.model["cell"].count("~") == 3
