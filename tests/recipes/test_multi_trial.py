"""The recipe of multi-trial searches: what is compared is alike, and a tiny form runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run

SEARCHES = ("by-lot", "tpe", "evolution")


def test_the_searches_have_the_same_budget() -> None:
    stages = load_recipe("multi-trial").stages
    strategies = [stages[name].strategy for name in SEARCHES]
    for field in ("trials", "epochs", "batch_size", "max_parameters", "scoring"):
        assert len({getattr(strategy, field) for strategy in strategies}) == 1, field
    assert len({str(stages[name].space) for name in ("drawn", *SEARCHES)}) == 1


def test_a_tiny_form_runs(tmp_path: Path) -> None:
    pytest.importorskip("nni")
    smaller = ["stages.by-lot,tpe,evolution.strategy.trials=3", "stages.tpe.strategy.drawn=2"]
    space = "{name: darts-tiny, nodes: 1, search_channels: 2, search_cells: 3, channels: 2, cells: 3}"
    tiny = [
        "data={name: digits, limit: 100}",
        "stages.by-lot,tpe,evolution.strategy.epochs=1",
        f"stages.drawn,by-lot,tpe,evolution.space={space}",
    ]
    trained = [f"stages.of-{name}.epochs=1" for name in ("drawn", *SEARCHES)]
    overrides = [*smaller, "stages.evolution.strategy.population=2", *tiny, *trained]
    record = run(load_recipe("multi-trial", overrides), tmp_path, "nasdistill run multi-trial")
    found = {row.stage: row for row in record.rows}
    for name in SEARCHES:
        assert found[name].metrics["trials"] == 3
        assert found[f"of-{name}"].parameters == found[name].parameters <= 16000
