"""The recipes on data of one's own: a tiny form of each, on data that these tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from nasdistill.models.base import load_spec
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.report.records import RunRecord


def tried(name: str, folder: Path, *overrides: str) -> RunRecord:
    recipe = load_recipe(name, ["engine.accelerator=cpu", *overrides])
    return run(recipe, folder / "out", f"nasdistill run {name}")


def test_arrays(tmp_path: Path) -> None:
    digits = load_digits()
    names = np.array([f"digit {label}" for label in digits.target[:200]])
    np.savez(tmp_path / "own.npz", images=digits.images[:200] / 16, labels=names)
    tiny = [f"data.root={tmp_path / 'own.npz'}", "data.augmentations=[]", "stages.teacher,alone,student.epochs=1"]
    tiny += ["stages.teacher.model=mlp-16", "stages.alone.model=mlp-8", "stages.student.student=mlp-8"]
    rows = tried("own-arrays", tmp_path, *tiny).rows
    assert [row.stage for row in rows] == ["teacher", "alone", "student"]
    assert rows[2].folder is not None
    spec = load_spec(rows[2].folder)
    assert (spec.shape, spec.labels) == ((1, 8, 8), tuple(f"digit {label}" for label in range(10)))
