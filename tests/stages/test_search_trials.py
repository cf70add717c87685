"""The stage `search` with a strategy that trains architectures one by one: what it writes, as the report reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill.models.base import load_spec
from nasdistill.report import payloads
from nasdistill.report.sections.trials import SearchTrials
from tests.stages.test_search import run


def test_the_trials_are_written_and_the_best_is_the_network(tmp_path: Path) -> None:
    pytest.importorskip("nni")
    outcome = run(tmp_path, strategy={"name": "nni:random-search", "trials": 3, "batch_size": 16}, epochs=2)
    payload = tmp_path / "payload"
    found = payloads.read(SearchTrials, payload)
    assert found is not None
    assert [len(trial.curve) for trial in found.trials] == [2, 2, 2]
    best = found.trials[found.best]
    assert best.score == max(trial.score or 0 for trial in found.trials) == outcome.metrics["score"]
    assert best.parameters == outcome.metrics["parameters"]
    genotype = load_spec(payload).model.genotype
    for cell in ("normal", "reduce"):
        for node, edges in enumerate(getattr(genotype, cell)):
            assert best.chosen[f"{cell}/{node}/states"] == [state for _operation, state in edges]
            for number, (operation, _state) in enumerate(edges):
                assert best.chosen[f"{cell}/{node}/{number}"] == operation
