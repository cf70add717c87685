"""The recipe beyond images: what it claims of its networks, and a tiny form from the data to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run

NAME = "zero-shot-waveforms"


def test_the_student_never_hears_a_waveform_and_is_the_one_trained_alone() -> None:
    recipe = load_recipe(NAME)
    stages = {name: settings.model_dump() for name, settings in recipe.stages.items()}
    assert stages["zero-shot"]["student"] == stages["alone"]["model"]
    assert stages["alone"]["epochs"] == stages["teacher"]["epochs"]
    assert [stage.registered_name for stage in recipe.stages.values()] == ["train", "train", "zero-shot"]


def test_the_attention_is_that_of_images_brought_to_fewer_places() -> None:
    """250 beside a mean over 10 classes is 2500 beside a sum; a mean over 1024, 256, 64 places becomes 64, 16, 4."""
    kl, attention = load_recipe(NAME).stages["zero-shot"].objectives  # type: ignore[attr-defined]
    assert kl.divergence.reduction == "batchmean"
    assert attention.beta == pytest.approx(250 * 10 * 64 / 1024, rel=0.05)


def test_a_tiny_form_runs(tmp_path: Path) -> None:
    tiny = [
        "engine.accelerator=cpu",
        "stages.teacher,alone.epochs=1",
        "stages.teacher,alone.batch_size=20",
    ]
    tiny += ["data.train_per_class=4", "data.test_per_class=2", "data.length=256"]
    tiny += ["stages.zero-shot.pseudo_batches=2", "stages.zero-shot.batch_size=10", "stages.zero-shot.pictures=1"]
    record = run(load_recipe(NAME, tiny), tmp_path / "out", f"nasdistill run {NAME}")
    assert [row.stage for row in record.rows] == ["teacher", "alone", "zero-shot"]
    teacher, alone, student = record.rows
    assert student.parameters == alone.parameters < teacher.parameters / 3
    assert student.folder is not None
    pseudo = json.loads((student.folder / "pseudo.json").read_text())
    (picture,) = pseudo["pictures"]
    assert [(len(rows), len(rows[0])) for rows in picture["images"][0]] == [(1, 2 * 256)]  # one row, two digits a byte
    assert (tmp_path / "out" / "report.html").is_file()
