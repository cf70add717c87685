"""The recipe of the network whose data are gone, in a tiny form."""

from __future__ import annotations

from pathlib import Path

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run

TINY = (
    "data=digits",
    "data.limit=200",
    "seeds=[0]",
    "stages.teacher.model=wrn-10-1",
    "stages.teacher,alone,few-shot.epochs=1",
    "stages.alone.model=wrn-10-1",
    "stages.zero-shot,few-shot.student=wrn-10-1",
    "stages.zero-shot.pseudo_batches=4",
    "stages.zero-shot.evaluate_every=2",
    "stages.zero-shot-error,few-shot-error.images=2",
    "stages.zero-shot-error,few-shot-error.steps=3",
)


def test_the_tiny_form_runs_to_its_end(tmp_path: Path) -> None:
    record = run(load_recipe("zero-shot-mnist", TINY), tmp_path / "out", "nasdistill run zero-shot-mnist")
    rows = {row.stage: row.metrics for row in record.rows}
    assert list(rows) == ["teacher", "alone", "zero-shot", "few-shot", "zero-shot-error", "few-shot-error"]
    assert rows["zero-shot"]["pseudo_batches"] == 4
    for name in ("zero-shot-error", "few-shot-error"):
        assert 0 <= rows[name]["mean_transition_error"] <= 1
        assert 0 < rows[name]["agreement"] <= 100
    assert rows["zero-shot-error"]["teacher_accuracy"] == rows["few-shot-error"]["teacher_accuracy"]
