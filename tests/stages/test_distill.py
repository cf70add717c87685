"""The stage `distill` on the embedded digits: what it writes, what it refuses, and that a kill changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data, ImageSet
from nasdistill.errors import Interrupted, SpecError
from nasdistill.models.base import load_network
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES
from nasdistill.storage import read_json
from nasdistill.training.batches import Batch
from tests.stages.parts import context_in, network_artifact, stop_in

STUDENT, TEACHER = "wrn-10-1", "wrn-16-1"


@pytest.fixture
def teacher(tmp_path: Path, data: Data) -> Artifact:
    return network_artifact(tmp_path / "teacher", data, TEACHER)


def distill(folder: Path, data: Data, teacher: Artifact, **options: Any) -> tuple[dict[str, Any], Path]:
    stage = build(
        STAGES.get("distill"),
        {"student": STUDENT, "teacher": "teacher", "epochs": 2, "batch_size": 32, "augment": False, **options},
    )
    surroundings = context_in(folder, data)
    outcome = stage.run({"teacher": teacher}, surroundings)
    return outcome.metrics, surroundings.folder


def test_the_artifact_holds_the_student_alone_and_what_it_scores(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    objectives = [{"name": "kd", "temperature": 4, "weight": 0.9}, {"name": "attention", "beta": 10}]
    metrics, folder = distill(tmp_path, data, teacher, objectives=objectives)
    spec, network = load_network(folder)
    assert spec.model == registry("models").parse(STUDENT)
    assert set(load_file(folder / "weights.safetensors")) == set(spec.build().state_dict())
    assert spec.normalisation == data.normalisation
    assert metrics["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert set(metrics["accuracy"]) == {"last", "best", "selected"}
    confusion = read_json(folder / "confusion.json")
    matrix = torch.tensor(confusion["matrix"])
    assert confusion["labels"] == list(data.classes)
    assert matrix.sum(1).tolist() == torch.bincount(data.test.labels, minlength=10).tolist()
    # The accuracy of the weights that were kept, from the network on disk and normalised pixels, once more by hand.
    mean, std = data.normalisation.mean[0], data.normalisation.std[0]
    with torch.no_grad():
        predicted = network((data.test.images / 255 - mean) / std).argmax(1)  # type: ignore[union-attr]
    correct = (predicted == data.test.labels).float().mean().item() * 100
    assert metrics["accuracy"]["selected"] == pytest.approx(correct)
    assert 100 * matrix.trace().item() / len(data.test) == pytest.approx(correct)
    assert read_json(folder / "history.json")["curves"]


def test_a_distillation_token_is_kept_and_answers_with_the_other_classifier(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    student = {"name": "vit-12-1", "patch": 2, "distillation_token": True}
    metrics, folder = distill(tmp_path, data, teacher, student=student, objectives=["token"], show=[])
    _, network = load_network(folder)
    mean, std = data.normalisation.mean[0], data.normalisation.std[0]
    with torch.no_grad():
        both = network.forward_with_auxiliary((data.test.images / 255 - mean) / std)  # type: ignore[operator, union-attr]
    predicted = (both[0] + both[1]).argmax(1)
    correct = (predicted == data.test.labels).float().mean().item() * 100
    assert metrics["accuracy"]["selected"] == pytest.approx(correct)
    assert {"train/cross-entropy", "train/token"} <= set(read_json(folder / "history.json")["curves"])


def test_a_reused_classifier_is_the_teachers_and_can_be_trained_on(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    student = {"name": "reused-classifier", "model": "mlp-16", "features": 64}
    options = {"student": student, "teacher": "teacher", "epochs": 1, "batch_size": 48, "show": []}
    stage = build(STAGES.get("distill"), {**options, "objectives": ["simkd"]})
    outcome = stage.run({"teacher": teacher}, context_in(tmp_path, data))
    assert outcome.network is not None
    ours, theirs = outcome.network.module.state_dict(), load_file(teacher.folder / "weights.safetensors")
    assert torch.equal(ours["classifier.weight"], theirs["classifier.weight"])
    assert all(parameter.requires_grad for parameter in outcome.network.module.parameters())


def test_a_trained_student_starts_from_its_weights(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    start = network_artifact(tmp_path / "start", data, STUDENT)
    options = {"student": "start", "optimizer": {"name": "sgd", "lr": 1e-9, "weight_decay": 0}, "epochs": 1}
    stage = build(STAGES.get("distill"), {"teacher": "teacher", "batch_size": 48, **options})
    surroundings = context_in(tmp_path, data)
    stage.run({"teacher": teacher, "student": start}, surroundings)
    before, after = (load_file(folder / "weights.safetensors") for folder in (start.folder, surroundings.folder))
    for name, value in before.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)


def test_the_teacher_matters_and_is_left_as_it_was(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    other = network_artifact(tmp_path / "other", data, "wrn-10-2")
    weights = [
        load_file(distill(tmp_path / name, data, artifact, epochs=1)[1] / "weights.safetensors")
        for name, artifact in (("a", teacher), ("b", other))
    ]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    teacher.verify()


def test_the_test_set_selects_nothing(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    shuffled = dataclasses.replace(data, test=ImageSet(data.test.images, data.test.labels.roll(1)))  # type: ignore[union-attr]
    folders = [distill(tmp_path / name, each, teacher)[1] for name, each in (("a", data), ("b", shuffled))]
    first, second = (load_file(folder / "weights.safetensors") for folder in folders)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_student_trains_after_each_evaluation(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student left in evaluation mode after the first validation is the commonest silent bug of all."""
    from nasdistill.distill.task import Distillation

    modes: list[tuple[bool, bool]] = []
    forward = Distillation.forward

    def watched(task: Distillation, batch: Batch) -> dict[str, torch.Tensor]:
        modes.append((task.network.training, task.teacher_ensemble.teachers[0].network.training))
        return forward(task, batch)

    monkeypatch.setattr(Distillation, "forward", watched)
    distill(tmp_path, data, teacher)
    assert modes == [(True, False)] * 6  # two epochs of three steps, an evaluation between them


def test_a_stopped_run_ends_with_the_bits_of_an_unbroken_one(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasdistill.distill.task import Distillation

    whole = load_file(distill(tmp_path / "whole", data, teacher)[1] / "weights.safetensors")
    taken = stop_in(monkeypatch, Distillation, 4)
    with pytest.raises(Interrupted):
        distill(tmp_path / "broken", data, teacher)
    (checkpoint, *_) = (tmp_path / "broken" / "work" / "checkpoints").glob("*.safetensors")
    teachers_share = sum(value.nbytes for value in load_file(teacher.folder / "weights.safetensors").values())
    # Weights and momentum of a wrn-10-1, and the best weights so far: nothing of the teacher's size comes along.
    students_share = sum(value.nbytes for value in whole.values())
    assert checkpoint.stat().st_size < 3 * students_share + teachers_share / 2
    resumed = load_file(distill(tmp_path / "broken", data, teacher)[1] / "weights.safetensors")
    assert taken["steps"] == 6
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"objectives": []}, ("objectives",), "at least 1 must be given"),
        ({"objectives": ["kdd"]}, ("objectives", 0), "unknown objective 'kdd'; did you mean 'kd'?"),
        ({"objectives": [{"name": "kd", "temprature": 4}]}, ("objectives", 0, "temprature"), "mean 'temperature'?"),
        ({"objectives": [{"name": "kd", "weight": 1.5}]}, ("objectives",), "leaves -0.5 to the labels"),
        ({"objectives": ["cross-entropy"], "label_smoothing": 0.1}, ("label_smoothing",), "belongs into the listed"),
        ({"student": "teacher"}, ("teacher",), "the student is its own teacher 'teacher'"),
        ({"epoch": 3}, ("epoch",), "did you mean 'epochs'?"),
        ({"objectives": [{"name": "dkd", "alpha": 0, "beta": 0}]}, ("objectives", 0, "alpha"), "alpha and beta are 0"),
        ({"objectives": [{"name": "dist", "beta": 0, "gamma": 0}]}, ("objectives", 0, "beta"), "beta and gamma are 0"),
        (
            {"objectives": [{"name": "rkd", "distance_weight": 0, "angle_weight": 0}]},
            ("objectives", 0, "distance_weight"),
            "so that nothing would be learned",
        ),
        (
            {"objectives": ["kd", {"name": "dkd", "warmup": 20}], "epochs": 5},
            ("objectives", 1, "warmup"),
            "the warm-up of 20 epochs exceeds `epochs: 5`",
        ),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], path: tuple[str | int, ...], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        build(STAGES.get("distill"), {"student": STUDENT, "teacher": "teacher", **options})
    assert error.value.path == path
    assert problem in error.value.problem


def test_a_curriculum_that_outlasts_the_training_is_told() -> None:
    given = {"student": STUDENT, "teacher": "teacher", "objectives": ["ctkd"]}
    short, long = (build(STAGES.get("distill"), {**given, "epochs": epochs}).caveat() for epochs in (5, 10))
    assert short == "ctkd's `curriculum` of 10 epochs is not over after the 5 that are trained"
    assert long is None


def test_a_teacher_of_other_images_or_without_weights_is_refused(tmp_path: Path, data: Data) -> None:
    wider = network_artifact(tmp_path / "wider", data, TEACHER, shape=(3, 8, 8), normalisation=None)
    with pytest.raises(SpecError, match=r"the teacher 'teacher' is made for images of 3x8x8 in 10 classes; .* 1x8x8"):
        distill(tmp_path / "a", data, wider)
    untrained = network_artifact(tmp_path / "untrained", data, TEACHER, trained=False)
    with pytest.raises(SpecError, match="'teacher' has no trained weights"):
        distill(tmp_path / "b", data, untrained)


def test_kd_is_the_default_objective() -> None:
    stage = build(STAGES.get("distill"), {"student": STUDENT, "teacher": "teacher"})
    (kd,) = stage.objectives
    assert (kd.registered_name, kd.weight, kd.temperature) == ("kd", 0.9, 4.0)
