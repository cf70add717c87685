"""A student of cached teacher outputs is the student of the teacher itself, up to the rounding to half precision."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nasdistill import closure
from nasdistill.artifacts import Artifact
from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.data.base import Data
from nasdistill.distill import cached_outputs
from nasdistill.distill.objectives import Outputs
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import TeacherEnsemble
from nasdistill.errors import Interrupted
from nasdistill.models.base import load_network
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.training.engine import EngineSettings
from tests.stages.parts import context_in, equal, few_digits, network_artifact, stop_in

KD = {"name": "kd", "temperature": 4, "weight": 0.9}
AT = {"name": "attention", "beta": 60}


@pytest.fixture(scope="module")
def data() -> Data:
    """96 images, shifted and mirrored anew in each view; six batches of 16, in files of four and two."""
    moving = (AUGMENTATIONS.parse({"name": "crop", "padding": 1}), AUGMENTATIONS.parse("flip"))
    return dataclasses.replace(few_digits(), augmentations=moving)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Artifact:
    return network_artifact(tmp_path_factory.mktemp("teacher") / "given", data, "wrn-10-2")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_outputs, "SHARD_BATCHES", 4)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each question to the teachers was about."""
    answer, questions = TeacherEnsemble.__call__, []

    def watched(teacher_ensemble: TeacherEnsemble, images: torch.Tensor) -> list[Outputs]:
        questions.append(len(images))
        return answer(teacher_ensemble, images)

    monkeypatch.setattr(TeacherEnsemble, "__call__", watched)
    return questions


def student(folder: Path, data: Data, teacher: Artifact, precision: Any = "32", **options: Any) -> dict[str, Any]:
    """The student's weights."""
    given = {"student": "wrn-10-1", "teacher": "teacher", "epochs": 4, "views": 2, "batch_size": 16, "show": []}
    stage = build(STAGES.get("distill"), {**given, "evaluate_every": 4, **options})
    place = context_in(folder, data, cache=folder.parent / "cache")
    place.engine_settings = EngineSettings(accelerator="cpu", precision=precision)
    stage.run({"teacher": teacher}, place)
    return load_file(place.folder / "weights.safetensors")


def folders(tmp_path: Path) -> int:
    return len(list((tmp_path / "cache").iterdir()))


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("objectives", [[KD], [KD, AT]], ids=["kd", "kd-at"])
def test_the_student_is_bit_for_bit_that_of_a_teacher_who_speaks_in_halves(
    objectives: list[Any],
    precision: str,
    tmp_path: Path,
    data: Data,
    teacher: Artifact,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"objectives": objectives, "precision": precision}
    hears, reads = (student(tmp_path / name, data, teacher, cache_outputs=True, **options) for name in ("a", "b"))
    answer = TeacherEnsemble.__call__

    def in_halves(teacher_ensemble: TeacherEnsemble, images: torch.Tensor) -> list[Outputs]:
        return [
            Outputs(said.logits.half().float(), {at: value.half().float() for at, value in said.features.items()})
            for said in answer(teacher_ensemble, images)
        ]

    plain = student(tmp_path / "plain", data, teacher, **options)
    monkeypatch.setattr(TeacherEnsemble, "__call__", in_halves)
    halves = student(tmp_path / "halves", data, teacher, **options)
    assert equal(hears, halves)
    assert equal(reads, halves)
    assert equal(plain, halves) == (precision == "bf16")  # whose 8 bits fit into the 11 of a half


def test_rounding_changes_no_prediction(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    """Half precision has 11 bits: after 24 gentle steps in fp32 weights differ by less than 1e-4."""
    optimizer = {"name": "sgd", "lr": 0.01}
    with_it = student(tmp_path / "a", data, teacher, optimizer=optimizer, cache_outputs=True)
    without = student(tmp_path / "b", data, teacher, optimizer=optimizer)
    for name, value in without.items():
        assert (with_it[name] - value).abs().max() <= 1e-4 * max(1, value.abs().max())
    images = (data.test.images / 255 - data.normalisation.mean[0]) / data.normalisation.std[0]  # type: ignore[union-attr]
    with torch.no_grad():
        predicted = [load_network(tmp_path / name / "payload")[1](images).argmax(1) for name in ("a", "b")]
    assert torch.equal(*predicted)


def test_kept_outputs_spare_the_teacher(tmp_path: Path, data: Data, teacher: Artifact, asked: list[int]) -> None:
    student(tmp_path / "a", data, teacher, cache_outputs=True)
    assert asked == [16] * (2 + 2 * 6)  # the rehearsal, and two views of six batches for four epochs
    asked.clear()
    student(tmp_path / "b", data, teacher, cache_outputs=True, student="wrn-10-2", optimizer="adam", epochs=5)
    assert asked == []
    student(tmp_path / "c", data, teacher, cache_outputs=True, views=3)
    assert asked == [16] * 6  # the third view
    assert folders(tmp_path) == 1


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 24}, {"augment": False}, {"objectives": [KD, AT]}, {"average": "logits"}, {"precision": "bf16"}],
)
def test_what_decides_the_outputs_keeps_others(
    change: dict[str, Any], tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    student(tmp_path / "a", data, teacher, cache_outputs=True, epochs=1)
    student(tmp_path / "b", data, teacher, **{"cache_outputs": True, "epochs": 1, **change})
    assert folders(tmp_path) == 2


def test_other_teachers_seeds_data_and_code_keep_others(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = network_artifact(tmp_path / "other", data, "wrn-10-1")
    options = {"student": "wrn-10-1", "teacher": "teacher", "epochs": 1, "batch_size": 48, "show": []}
    stage = build(STAGES.get("distill"), {**options, "cache_outputs": True})
    changes: list[dict[str, Any]] = [{}, {"seed": 4}, {"data_identity": {"fingerprint": "0"}}]
    for number, change in enumerate(changes):
        place = dataclasses.replace(context_in(tmp_path / str(number), data, cache=tmp_path / "cache"), **change)
        place.shared.split = place.seed, data
        stage.run({"teacher": teacher}, place)
        assert folders(tmp_path) == number + 1
    stage.run({"teacher": other}, context_in(tmp_path / "last", data, cache=tmp_path / "cache"))
    assert folders(tmp_path) == len(changes) + 1
    monkeypatch.setattr(closure, "_sources", {})  # as in a process that starts after an edit
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "wrn.py"))
    stage.run({"teacher": teacher}, context_in(tmp_path / "edited", data, cache=tmp_path / "cache"))
    assert folders(tmp_path) == len(changes) + 2


@pytest.mark.parametrize("step", [3, 8, 15])
def test_a_training_that_is_stopped_ends_with_the_same_bits(
    step: int, tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before a file of outputs is written, after one, and in an epoch that reads; two epochs of six steps."""
    whole = student(tmp_path / "whole" / "run", data, teacher, cache_outputs=True)
    taken = stop_in(monkeypatch, Distillation, step)
    with pytest.raises(Interrupted):
        student(tmp_path / "stopped" / "run", data, teacher, cache_outputs=True)
    assert equal(student(tmp_path / "stopped" / "run", data, teacher, cache_outputs=True), whole)
    assert taken["steps"] == 24


RECIPE = """\
name: two-students
seed: 1
data: {name: digits, limit: 100, augmentations: [flip]}
engine: {accelerator: cpu, precision: "32"}
stages:
  - {name: teacher, uses: train, with: {model: mlp-16, epochs: 1}}
  - name: first
    uses: distill
    with: {student: mlp-8, teacher: teacher, epochs: 2, batch_size: 30, cache_outputs: true}
  - name: second
    uses: distill
    with: {student: mlp-12, teacher: teacher, epochs: 2, batch_size: 30, cache_outputs: true, objectives: [logits-mse]}
"""


def test_two_students_of_a_recipe_share_what_is_kept(tmp_path: Path, asked: list[int]) -> None:
    """90 images to train on: three batches, two views, heard by the first student alone."""
    (tmp_path / "two-students.yaml").write_text(RECIPE)
    run(load_recipe(str(tmp_path / "two-students.yaml"), []), tmp_path / "out", "nasdistill run two-students.yaml")
    assert asked == [30] * (2 + 2 * 3)
    (folder,) = (tmp_path / "out" / "cache").iterdir()
    assert len(list(folder.glob("*.safetensors"))) == 2
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    asked.clear()
    again = load_recipe(str(tmp_path / "two-students.yaml"), ["stages.second.student=mlp-10"])
    run(again, tmp_path / "out", "nasdistill run two-students.yaml stages.second.student=mlp-10")
    assert asked == []
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
