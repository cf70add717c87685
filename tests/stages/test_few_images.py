"""Training on a few images of each class: which they are, how often they are seen, and that a kill changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.artifacts import Artifact
from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.data.base import Data
from nasdistill.data.preparation import with_few_images
from nasdistill.distill.hinting import HintTraining
from nasdistill.distill.task import Distillation
from nasdistill.errors import Interrupted, SpecError
from nasdistill.models.base import load_spec
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.storage import read_json
from nasdistill.training.batches import Batch, Batches
from nasdistill.training.tasks import Supervised, Task
from tests.stages.parts import context_in, equal, few_digits, network_artifact, stop_in, watch, weights

STAGES_THAT_TRAIN: dict[str, tuple[dict[str, Any], type[Task]]] = {
    "train": ({"model": "wrn-10-1"}, Supervised),
    "hints": ({"student": "wrn-10-1", "teacher": "teacher"}, HintTraining),
    "distill": ({"student": "wrn-10-1", "teacher": "teacher", "show": []}, Distillation),
}
LOOP = {"epochs": 2, "batch_size": 32}
CRD = {"name": "crd", "negatives": 20, "dimensions": 8}


@pytest.fixture(scope="module")
def data() -> Data:
    """96 images to train on, at least 5 of each class."""
    return few_digits()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Artifact:
    return network_artifact(tmp_path_factory.mktemp("teacher") / "given", data, "wrn-16-1")


def run(folder: Path, uses: str, data: Data, teacher: Artifact, **options: Any) -> Path:
    """The payload of a stage; what teachers said is kept for all that run in folders beside each other."""
    stage = build(STAGES.get(uses), {**STAGES_THAT_TRAIN[uses][0], **LOOP, **options})
    context = context_in(folder, data, cache=folder.parent / "cache")
    stage.run({"teacher": teacher}, context)
    return context.folder


def pictures(seen: list[Batch]) -> dict[bytes, int]:
    """The labels of the different images, by their pixels."""
    return {
        image.contiguous().numpy().tobytes(): int(label)
        for batch in seen
        for image, label in zip(*batch[:2], strict=True)
    }


@pytest.mark.parametrize("uses", STAGES_THAT_TRAIN)
def test_a_full_epoch_has_the_steps_of_all_images_and_shows_a_few_of_each_class(
    uses: str, tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, STAGES_THAT_TRAIN[uses][1])
    found: dict[int | None, list[Batch]] = {}
    for few in (None, 2, 3):
        folder = run(tmp_path / str(few), uses, data, teacher, images_per_class=few, augment=False)
        found[few] = list(seen)
        seen.clear()
        if uses != "hints":
            assert sum(map(sum, read_json(folder / "confusion.json")["matrix"])) == len(data.test)
    assert {few: [len(batch.labels) for batch in batches] for few, batches in found.items()} == {
        few: [32] * 6 for few in (None, 2, 3)
    }
    two, three, whole = (pictures(found[few]) for few in (2, 3, None))
    assert [list(images.values()).count(label) for images in (two, three) for label in range(10)] == [2] * 10 + [3] * 10
    assert two.keys() < three.keys() < whole.keys()
    # Another way to the same images: the stages of one seed share them.
    again = watch(monkeypatch, Supervised)
    run(tmp_path / "train", "train", data, teacher, images_per_class=3, augment=False)
    assert pictures(again) == three


def test_the_schedule_and_the_evaluations_are_those_of_a_full_run(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    curves = []
    for few in (None, 2):
        options = {"images_per_class": few, "epochs": 4, "evaluate_every": 2, "warmup": 1}
        history = read_json(run(tmp_path / str(few), "train", data, teacher, **options) / "history.json")
        curves.append(history["curves"])
    assert [epoch for epoch, _ in curves[1]["validation/accuracy"]] == [2, 4]
    assert curves[0]["learning rate"] == curves[1]["learning rate"]


def test_an_epoch_of_the_few_alone_is_one_small_batch(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, Supervised)
    run(tmp_path, "train", data, teacher, images_per_class=3, full_epochs=False, batch_size=128)
    assert [len(batch.labels) for batch in seen] == [30, 30]
    assert all(len(pictures([batch])) == 30 for batch in seen)


def test_all_images_of_each_class_are_the_full_run(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    even = with_few_images(data, 5, seed=0)
    folders = [
        run(tmp_path / name, "train", even, teacher, **options)
        for name, options in (("a", {}), ("b", {"images_per_class": 5}), ("c", {"images_per_class": 4}))
    ]
    assert equal(weights(folders[0]), weights(folders[1]))
    assert not equal(weights(folders[0]), weights(folders[2]))


def test_losses_that_learn_are_prepared_on_the_few(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []

    def prepare(self: Distillation, batches: Batches, seed: int) -> None:
        prepared.append(batches.labels)

    monkeypatch.setattr(Distillation, "prepare", prepare)
    run(tmp_path, "distill", data, teacher, images_per_class=3)
    assert [labels.bincount().tolist() for labels in prepared] == [[3] * 10]


@pytest.mark.parametrize("cache_outputs", [False, True])
@pytest.mark.parametrize(("full_epochs", "batch_size", "steps"), [(True, 32, 9), (False, 20, 6)])
def test_a_stopped_training_ends_with_the_same_bits(
    full_epochs: bool,
    batch_size: int,
    steps: int,
    cache_outputs: bool,
    tmp_path: Path,
    data: Data,
    teacher: Artifact,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a memory of each image; of 30 images, batches of 32 hold some twice."""
    moving = dataclasses.replace(data, augmentations=(AUGMENTATIONS.parse({"name": "crop", "padding": 1}),))
    options = {"images_per_class": 3, "full_epochs": full_epochs, "batch_size": batch_size, "epochs": 3}
    options |= {"objectives": ["kd", CRD, "attention"], "cache_outputs": cache_outputs}
    whole = weights(run(tmp_path / "whole" / "run", "distill", moving, teacher, **options))
    taken = stop_in(monkeypatch, Distillation, 5)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken" / "run", "distill", moving, teacher, **options)
    torch.rand(7)  # what another process drew before must not matter
    assert equal(weights(run(tmp_path / "broken" / "run", "distill", moving, teacher, **options)), whole)
    assert taken["steps"] == steps


def test_kept_outputs_are_those_of_the_same_few(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    choices: list[dict[str, Any]] = [
        {"images_per_class": few, "full_epochs": full} for few in (2, 3, None) for full in (False, True)
    ]
    alone = []
    for number, choice in enumerate(choices):
        folder = tmp_path / str(number) / "run"
        alone.append(weights(run(folder, "distill", data, teacher, cache_outputs=True, **choice)))
    together = [
        weights(run(tmp_path / "together" / str(number), "distill", data, teacher, cache_outputs=True, **choice))
        for number, choice in enumerate(choices)
    ]
    assert all(equal(*pair) for pair in zip(alone, together, strict=True))
    # Without a choice every epoch is a full one.
    assert len(list((tmp_path / "together" / "cache").iterdir())) == len(choices) - 1


@pytest.mark.parametrize("uses", STAGES_THAT_TRAIN)
def test_a_class_with_too_few_is_named_before_any_step(
    uses: str, tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    sizes = data.train.labels.bincount().tolist()
    with pytest.raises(SpecError) as refused:
        run(tmp_path, uses, data, teacher, images_per_class=50)
    name = data.classes[sizes.index(min(sizes))]
    assert refused.value.path == ("images_per_class",)
    assert refused.value.problem == (
        f"the class {name!r} has {min(sizes)} training image(s); 50 are wanted of each class"
    )
    assert not (tmp_path / "work").exists()
    stage = build(STAGES.get(uses), {**STAGES_THAT_TRAIN[uses][0], **LOOP, "images_per_class": 50})
    with pytest.raises(SpecError, match="50 are wanted of each class"):  # in the plan too
        stage.foresee({"teacher": load_spec(teacher.folder)}, context_in(tmp_path, data))
