"""The recipes on data of one's own: a tiny form of each, on data that these tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from sklearn.datasets import load_digits

from nasdistill.models.base import load_spec
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.report.records import RunRecord


def tried(name: str, folder: Path, *overrides: str) -> RunRecord:
    recipe = load_recipe(name, ["engine.accelerator=cpu", *overrides])
    return run(recipe, folder / "out", f"nasdistill run {name}")


@pytest.mark.slow
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


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for part, count in (("train", 60), ("test", 20)):
        lines = [f"{'ab'[n % 2]}\t{('fine', 'poor')[n % 2]} word{n % 7} and more" for n in range(count)]
        (folder / f"{part}.tsv").write_text("\n".join(lines))
    return folder


def test_the_student_that_reads_no_text_is_the_one_trained_alone() -> None:
    stages = {name: stage.model_dump() for name, stage in load_recipe("zero-shot-texts").stages.items()}
    assert stages["zero-shot"]["student"] == stages["alone"]["model"]
    assert load_recipe("texts").stages["alone"].model == load_recipe("texts").stages["student"].student  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["texts", "zero-shot-texts"])
def test_texts(name: str, tmp_path: Path) -> None:
    tiny = [f"data.root={write_texts(tmp_path / 'own')}", "data.length=5", "stages.teacher,alone.epochs=1"]
    if name == "texts":
        rows = tried(name, tmp_path, *tiny, "stages.student.epochs=1").rows
        assert [row.stage for row in rows] == ["teacher", "alone", "student", "product"]
    else:
        tiny += ["stages.zero-shot.pseudo_batches=2", "stages.zero-shot.batch_size=8", "stages.zero-shot.pictures=1"]
        rows = tried(name, tmp_path, *tiny).rows
        assert [row.stage for row in rows] == ["teacher", "alone", "zero-shot"]
    assert rows[1].parameters == rows[2].parameters < rows[0].parameters


@pytest.mark.slow
def test_recordings(tmp_path: Path) -> None:
    for name, pitch in (("low", 200), ("high", 900)):
        for number in range(12):
            tone = np.sin(2 * np.pi * pitch * (np.arange(600) + 7 * number) / 8000)
            (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
            wavfile.write(tmp_path / "own" / name / f"{number}.wav", 8000, tone.astype(np.float32))
    tiny = [f"data.root={tmp_path / 'own'}", "data.length=512", "stages.teacher,alone,student.epochs=1"]
    tiny += ["stages.teacher.model=wave-3-8", "stages.alone.model=wave-3-4", "stages.student.student=wave-3-4"]
    rows = tried("recordings", tmp_path, *tiny).rows
    assert [row.stage for row in rows] == ["teacher", "alone", "student", "product"]
    assert rows[2].folder is not None
    assert load_spec(rows[2].folder).labels == ("high", "low")
