"""The recipe `new-channels`: one student, and teachers that differ in their new channels alone; a tiny form runs."""

from __future__ import annotations

from pathlib import Path

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run


def test_teachers_of_one_architecture_begin_in_three_ways(tmp_path: Path) -> None:
    tiny = ["data={name: digits, limit: 200}", "seeds=[0]", "engine.accelerator=cpu", "stages.by-gradmax.images=32"]
    tiny += [f"stages.{stage}.epochs=1" for stage in ("student", "copies", "zero", "gradmax")]
    rows = {row.stage: row for row in run(load_recipe("new-channels", tiny), tmp_path, "nasdistill run").rows}
    assert len({rows[stage].metrics["parameters"] for stage in ("copies", "zero", "gradmax")}) == 1
    assert len({str(rows[stage].inputs) for stage in ("copies", "zero", "gradmax")}) == 3
