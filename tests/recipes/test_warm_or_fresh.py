"""The recipe `warm-or-fresh`: one architecture from two starts, and a tiny form that runs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.epochs_needed import curves_of, needed
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run


def test_one_architecture_starts_warm_and_fresh_and_the_epochs_are_counted(tmp_path: Path) -> None:
    tiny = ["data={name: digits, limit: 200}", "seeds=[0]", "stages.grown.images=32", "engine.accelerator=cpu"]
    tiny += [f"stages.{stage}.epochs=2" for stage in ("student", "fresh", "warm", "warm-small-steps", "during")]
    tiny += ["stages.during.grow={after: [1], method: uniform}"]
    recipe = load_recipe("warm-or-fresh", tiny)
    rows = {row.stage: row for row in run(recipe, tmp_path, "nasdistill run warm-or-fresh").rows}
    assert rows["warm"].inputs == rows["fresh"].inputs == rows["warm-small-steps"].inputs
    curves = curves_of(tmp_path)
    assert {stage: list(of_seeds[0]) for stage, of_seeds in curves.items()} == {
        stage: [1, 2] for stage in rows if stage != "grown"
    }


def test_the_first_epoch_counts_that_is_as_good() -> None:
    curve = {1: 50.0, 2: 70.0, 3: 60.0, 4: 80.0}
    assert [needed(curve, accuracy) for accuracy in (50, 60, 75, 81)] == ["1", "2", "4", "never"]
