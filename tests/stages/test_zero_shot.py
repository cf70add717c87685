"""The stage `zero-shot`: what it writes, what it never looks at, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data, ImageSet, RawData
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import load_network, load_spec
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES, Context
from nasdistill.storage import read_json
from tests.stages.parts import context_in, network_artifact, turn_head

SMALL = {
    "pseudo_batches": 6,
    "batch_size": 8,
    "student_steps": 2,
    "evaluate_every": 2,
    "watch_every": 3,
    "pictures": 2,
    "generator": {"name": "convolutional", "latents": 8, "channels": 4},
}


class Untouchable:
    """Training images that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the training images were asked for {name!r}")

    def __len__(self) -> int:
        raise AssertionError("the training images were counted")


@pytest.fixture
def teacher(tmp_path: Path, data: Data) -> Artifact:
    return network_artifact(tmp_path / "teacher", data, "wrn-10-1")


def surroundings(folder: Path, data: Data, test: ImageSet | None = None, dataset: str = "digits") -> Context:
    """A context whose data set has test images alone, or none at all."""
    made = context_in(folder, data)
    made.shared.split = None  # what other stages train on
    made.dataset = registry("datasets").parse(dataset)
    if test is not None:
        untouchable: Any = Untouchable()
        made.shared.images = RawData(untouchable, test, data.classes)
    return made


def zero_shot(
    context: Context, inputs: dict[str, Artifact], **options: Any
) -> tuple[dict[str, Any], dict[str, list[list[float]]]]:
    """The metrics and the curves."""
    stage = build(STAGES.get("zero-shot"), {"student": "wrn-10-1", "teacher": "teacher", **SMALL, **options})
    metrics = stage.run(inputs, context).metrics
    context.records.close()
    return metrics, read_json(context.folder / "history.json")["curves"]


def answers(folder: Path, data: Data) -> torch.Tensor:
    """The classes that the network in a folder gives to the test images, by hand."""
    assert isinstance(data.test, ImageSet)
    mean, std = data.normalisation.mean[0], data.normalisation.std[0]
    with torch.no_grad():
        said: torch.Tensor = load_network(folder)[1].eval()((data.test.images / 255 - mean) / std)
    return said.argmax(1)


def test_training_images_are_never_touched_and_test_images_select_nothing(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    assert isinstance(data.test, ImageSet)
    wrong = ImageSet(data.test.images, data.test.labels.roll(1))
    runs = {
        "without": surroundings(tmp_path / "without", data, dataset="none"),
        "with": surroundings(tmp_path / "with", data, data.test),
        "wrong": surroundings(tmp_path / "wrong", data, wrong),
    }
    found = {name: zero_shot(context, {"teacher": teacher}) for name, context in runs.items()}
    weights = {name: load_file(context.folder / "weights.safetensors") for name, context in runs.items()}
    for name in ("with", "wrong"):
        assert all(torch.equal(value, weights["without"][key]) for key, value in weights[name].items())
    metrics, curves = found["with"]
    assert [done for done, _ in curves["test/accuracy"]] == [2, 4, 6]
    accuracies = [value for _, value in curves["test/accuracy"]]
    assert metrics["accuracy"] == {"last": accuracies[-1], "best": max(accuracies)}
    assert len(set(accuracies)) > 1, "else this shows nothing"
    assert "accuracy" not in found["without"][0]
    assert "test/accuracy" not in found["without"][1]

    assert load_network(runs["with"].folder)[0].normalisation == data.normalisation
    right = answers(runs["with"].folder, data) == data.test.labels
    assert metrics["accuracy"]["last"] == pytest.approx(right.float().mean().item() * 100)
    assert metrics["misclassified"] == int((~right).sum())
    matrix = torch.tensor(json.loads((runs["with"].folder / "confusion.json").read_text())["matrix"])
    assert int(matrix.sum() - matrix.trace()) == metrics["misclassified"]


def test_the_last_weights_are_kept_though_earlier_ones_were_better(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    """The student is its teacher at first; its batch norms drift away from the digits, and nothing else changes."""
    assert isinstance(data.test, ImageSet)
    easy = ImageSet(data.test.images, answers(teacher.folder, data))
    start = network_artifact(tmp_path / "start", data, "wrn-10-1")
    context = surroundings(tmp_path / "run", data, easy)
    metrics, _ = zero_shot(
        *(context, {"teacher": teacher, "student": start}),
        student="start",
        evaluate_every=1,
        optimizer={"name": "adam", "lr": 1e-9},
    )
    assert metrics["accuracy"]["best"] > metrics["accuracy"]["last"]
    kept = (answers(context.folder, data) == easy.labels).float().mean().item() * 100
    assert kept == pytest.approx(metrics["accuracy"]["last"])


def test_what_is_written(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    assert isinstance(data.test, ImageSet)
    context = surroundings(tmp_path / "run", data, data.test)
    metrics, curves = zero_shot(context, {"teacher": teacher})
    spec, network = load_network(context.folder)
    assert spec.model == registry("models").parse("wrn-10-1")
    assert metrics["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert (metrics["pseudo_batches"], "stopped" in metrics) == (6, False)
    assert metrics["samples_per_second"] > 0
    seconds, accuracies = zip(*metrics["over_time"], strict=True)
    assert 0 < seconds[0] < seconds[-1]
    assert list(accuracies) == [accuracy for _done, accuracy in curves["test/accuracy"]]
    assert metrics["taught_by_accuracy"] == pytest.approx(
        100 * (answers(teacher.folder, data) == data.test.labels).float().mean().item()
    )
    names = {"answers/agreement", "answers/student spread", "answers/teacher spread", "generator/adversarial"}
    assert names | {"student/divergence", "student/attention", "test/accuracy"} <= set(curves)
    assert [done for done, _ in curves["answers/agreement"]] == [3, 6]
    assert metrics["agreement"] == curves["answers/agreement"][-1][1]

    pseudo = read_json(context.folder / "pseudo.json")
    assert [picture["done"] for picture in pseudo["pictures"]] == [3, 6]
    for picture in pseudo["pictures"]:
        assert sum(picture["student"]) == sum(picture["teacher"]) == 3 * 8
        assert len(picture["student"]) == len(pseudo["classes"]) == 10
        images = [[bytes.fromhex(row) for row in channel] for image in picture["images"] for channel in image]
        assert (len(images), len(images[0]), len(images[0][0])) == (8, 8, 8)

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    for name, points in curves.items():
        told = [(event.step, event.value) for event in events.Scalars(name)]
        assert told == [(done, pytest.approx(value, rel=1e-5, abs=1e-7)) for done, value in points], name
    (first, last) = events.Images("pseudo-images")
    assert (first.step, last.step) == (3, 6)
    assert first.encoded_image_string.startswith(b"\x89PNG")
    assert first.encoded_image_string != last.encoded_image_string


@pytest.mark.parametrize("student", ["mlp-8", "start"])
def test_several_teachers_teach_any_student(tmp_path: Path, data: Data, teacher: Artifact, student: str) -> None:
    """Attention is learned from each with its share, by weights; a student without maps learns without it."""
    other = network_artifact(tmp_path / "other", data, "wrn-10-2")
    inputs = {("teacher", 0): teacher, ("teacher", 1): other}
    options: dict[str, Any] = {"teacher": ["teacher", "other"], "teacher_weights": [3, 1], "student": student}
    if student == "start":
        inputs["student"] = network_artifact(tmp_path / "start", data, "wrn-10-1")
        options["objectives"] = ["divergence", {"name": "attention", "beta": 16}]
    else:
        options["objectives"] = ["divergence"]
    _, curves = zero_shot(surroundings(tmp_path / "run", data, dataset="none"), inputs, **options)
    attention = {name for name in curves if "attention" in name}
    assert attention == ({"student/attention", "student/attention-2"} if student == "start" else set())
    assert "student/divergence" in curves
    assert "test/accuracy" not in curves
    for artifact in (teacher, other):
        artifact.verify()


def test_teachers_of_different_classes_are_refused(tmp_path: Path, data: Data) -> None:
    """Their logits would be averaged number by number, whatever the numbers stand for."""
    orders = {("teacher", 0): data.classes, ("teacher", 1): tuple("abcdefghij")}
    inputs = {
        name: network_artifact(tmp_path / str(name), data, "wrn-10-1", labels=each) for name, each in orders.items()
    }
    with pytest.raises(SpecError, match="'other' was trained on the classes 'a', ") as caught:
        zero_shot(surroundings(tmp_path / "run", data, dataset="none"), inputs, teacher=["teacher", "other"])
    assert caught.value.path == ("teacher", 1)


def test_a_trained_student_goes_on_from_its_weights(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    start = network_artifact(tmp_path / "start", data, "wrn-16-1")
    context = surroundings(tmp_path / "run", data, dataset="none")
    slow = {"optimizer": {"name": "adam", "lr": 1e-9}, "student": "start"}
    zero_shot(context, {"teacher": teacher, "student": start}, **slow)
    before, after = (load_file(folder / "weights.safetensors") for folder in (start.folder, context.folder))
    for name, value in before.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"student": "teacher"}, ("teacher",), "the student is its own teacher 'teacher'"),
        ({"teacher": []}, ("teacher",), "at least one teacher is needed"),
        ({"generator_losses": []}, ("generator_losses",), "at least one must have a weight over 0"),
        (
            {"generator_losses": [{"name": "adversarial", "weight": 0}]},
            ("generator_losses",),
            "at least one must have a weight over 0",
        ),
        ({"objectives": []}, ("objectives",), "at least one must have a weight over 0"),
        ({"objectives": ["crd"]}, ("objectives", 0), "'crd' looks at all training images, and here are none"),
        (
            {"objectives": ["divergence", "adversarial"]},
            ("objectives", 1),
            "'adversarial' looks at all training images, and here are none",
        ),
        (
            {"objectives": [{"name": "divergence", "warmup": 2}]},
            ("objectives", 0, "warmup"),
            "`warmup` counts epochs, and here are none; 0 does without",
        ),
        (
            {"objectives": ["divergence", "ctkd"]},
            ("objectives", 1, "curriculum"),
            "`curriculum` counts epochs, and here are none; 0 does without",
        ),
        (
            {"generator": "pixels", "adapt": "fomaml"},
            ("adapt",),
            "'pixels' starts over for each pseudo-batch, and has no common weights",
        ),
        ({"epochs": 3}, ("epochs",), "unknown key 'epochs'"),
        ({"generator": "convolutonal"}, ("generator",), "did you mean 'convolutional'?"),
        ({"generator_losses": ["adverserial"]}, ("generator_losses", 0), "did you mean 'adversarial'?"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], path: tuple[str | int, ...], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        build(STAGES.get("zero-shot"), {"student": "wrn-10-1", "teacher": "teacher", **options})
    assert error.value.path == path
    assert problem in error.value.problem


@pytest.mark.parametrize(
    ("generator", "losses", "options", "told"),
    [
        ("convolutional", ["adversarial"], {}, None),
        ("convolutional", ["information-entropy"], {}, None),
        ("convolutional", ["class-prior"], {}, "'convolutional' is not told the classes that 'class-prior' asks for"),
        ("convolutional", ["class-prior"], {"start_over_every": 1}, None),
        ("convolutional", ["class-prior"], {"adapt": "reptile"}, None),
        ("convolutional", ["class-prior"], {"latent_speed": 1}, None),
        ("convolutional", ["adversarial", {"name": "class-prior", "weight": 0}], {}, None),
        ("pixels", ["class-prior"], {}, None),
        ("pixels", ["adversarial"], {}, None),
        ("conditional", ["class-prior", "information-entropy"], {}, None),
        ("conditional", ["adversarial"], {}, "'conditional' is told classes, and no loss asks for them"),
        (
            "noisy-layer",
            ["adversarial", {"name": "class-prior", "weight": 0}],
            {},
            "'noisy-layer' is told classes, and no loss asks for them",
        ),
    ],
)
def test_a_generator_that_cannot_know_what_is_asked_of_it_is_told_by_the_plan(
    generator: str, losses: list[Any], options: dict[str, Any], told: str | None
) -> None:
    given = {"student": "wrn-10-1", "teacher": "teacher", "generator": generator, "generator_losses": losses}
    found = build(STAGES.get("zero-shot"), {**given, **options}).caveat()
    assert found is None if told is None else found is not None and told in found


def test_networks_and_test_images_that_do_not_fit_are_refused(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    assert isinstance(data.test, ImageSet)
    wide = network_artifact(tmp_path / "wide", data, "wrn-10-1", shape=(3, 8, 8), normalisation=None)
    untrained = network_artifact(tmp_path / "untrained", data, "wrn-10-1", trained=False)
    unknown = network_artifact(tmp_path / "unknown", data, "wrn-10-1", normalisation=None)
    nowhere = surroundings(tmp_path / "none", data, dataset="none")
    made_for = r"'wide' reads images of 3x8x8 in 10 classes, the first teacher images of 1x8x8 in 10 classes"
    with pytest.raises(SpecError, match=made_for) as error:
        zero_shot(nowhere, {"teacher": teacher, "student": wide}, student="wide")
    assert error.value.path == ("student",)
    with pytest.raises(SpecError, match=made_for) as error:
        zero_shot(nowhere, {("teacher", 0): teacher, ("teacher", 1): wide}, teacher=["teacher", "wide"])
    assert error.value.path == ("teacher", 1)
    with pytest.raises(SpecError, match="'teacher' has no trained weights"):
        zero_shot(nowhere, {"teacher": untrained})
    tested = surroundings(tmp_path / "digits", data, data.test)
    with pytest.raises(
        UserError, match="the data set has images of 1x8x8 in 10 classes, the teacher reads images of 3x"
    ):
        zero_shot(tested, {"teacher": wide})
    with pytest.raises(UserError, match="nobody knows what the teacher's images were normalised with"):
        zero_shot(tested, {"teacher": unknown})
    metrics, _ = zero_shot(nowhere, {"teacher": unknown})
    assert metrics["pseudo_batches"] == 6, "without test images nobody needs to know"


def test_test_images_of_other_classes_are_refused(tmp_path: Path, data: Data) -> None:
    taught = {"teacher": network_artifact(tmp_path / "other", data, "wrn-10-1", labels=tuple("abcdefghij"))}
    context = surroundings(tmp_path / "run", data, data.test)
    with pytest.raises(SpecError, match=r"'teacher' was trained on the classes 'a', .* those here are '0', "):
        zero_shot(context, taught, pseudo_batches=1)
    zero_shot(context, taught, pseudo_batches=1, classes="by-position")


def test_a_teacher_in_another_order_teaches_and_is_tested_in_the_datas(tmp_path: Path, data: Data) -> None:
    """As one whose head was turned by hand, to the last bit."""
    curves = {}
    for order, labels in (("turned", data.classes[::-1]), ("by hand", data.classes)):
        taught = network_artifact(tmp_path / order, data, "wrn-10-1", labels=labels)
        if order == "by hand":
            turn_head(taught)
        context = surroundings(tmp_path / f"{order}-run", data, data.test)
        _, curves[order] = zero_shot(context, {"teacher": taught}, pseudo_batches=2)
        assert load_spec(context.folder).labels == data.classes
    assert curves["turned"] == curves["by hand"]


def test_a_collapse_that_ends_it_is_in_the_results(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    assert isinstance(data.test, ImageSet)
    context = surroundings(tmp_path / "run", data, data.test)
    options = {"collapse_below": 0.999, "on_collapse": "stop", "pictures": 0}
    metrics, curves = zero_shot(context, {"teacher": teacher}, **options)
    assert (metrics["pseudo_batches"], metrics["collapses"]) == (3, [3])
    assert metrics["stopped"].startswith("collapse after 3 pseudo-batches: ")
    assert [done for done, _ in curves["answers/agreement"]] == [3]
    assert [done for done, _ in curves["test/accuracy"]] == [2, 3], "what is kept is scored"
    assert json.loads((context.folder / "pseudo.json").read_text())["pictures"] == []


def test_a_stage_that_needs_images_says_that_there_are_none(tmp_path: Path, data: Data) -> None:
    train = build(STAGES.get("train"), {"model": "mlp-8"})
    with pytest.raises(UserError, match="this stage works on images, but the data set is 'none'"):
        train.run({}, surroundings(tmp_path, data, dataset="none"))


def test_a_reused_classifier_is_the_teachers_and_can_be_trained_on(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    student = {"name": "reused-classifier", "model": "mlp-16", "features": 64}
    options = {**SMALL, "student": student, "teacher": "teacher", "objectives": ["simkd"], "pseudo_batches": 1}
    context = surroundings(tmp_path / "run", data, dataset="none")
    network = build(STAGES.get("zero-shot"), options).run({"teacher": teacher}, context).network
    context.records.close()
    ours, theirs = network.module.state_dict(), load_file(teacher.folder / "weights.safetensors")
    assert torch.equal(ours["classifier.weight"], theirs["classifier.weight"])
    assert all(parameter.requires_grad for parameter in network.module.parameters())
