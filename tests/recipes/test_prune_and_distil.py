"""The recipes that shrink, in tiny form: each network is what is left of the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.report.records import Row

TINY = ["data={name: digits, limit: 200}", "seeds=[0]", "engine.accelerator=cpu"]


def rows_of(recipe: str, folder: Path, *options: str) -> dict[str, Row]:
    return {
        row.stage: row for row in run(load_recipe(recipe, [*TINY, *options]), folder, f"nasdistill run {recipe}").rows
    }


def test_prune_and_distil_halves_three_times(tmp_path: Path) -> None:
    learning = ("teacher", "half", "quarter", "eighth", "at-once", "fresh")
    few = [f"stages.{stage}.epochs=1" for stage in learning]
    few += [f"stages.{stage}.images=32" for stage in ("half-cut", "quarter-cut", "eighth-cut", "at-once-cut")]
    rows = rows_of("prune-and-distil", tmp_path, "stages.teacher.model=wrn-10-1", *few)
    parameters = {stage: row.metrics["parameters"] for stage, row in rows.items()}
    for before, after in (("teacher", "half"), ("half", "quarter"), ("quarter", "eighth")):
        assert parameters[after] == parameters[f"{after}-cut"]
        assert parameters[after] / parameters[before] == pytest.approx(0.5, rel=0.02)
    assert parameters["at-once"] / parameters["teacher"] == pytest.approx(0.125, rel=0.02)
    assert rows["fresh"].inputs["student"] == rows["eighth"].inputs["student"]
