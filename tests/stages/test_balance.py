"""Training on classes of unequal size: what the network sees, what selects, and that a kill changes nothing."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight

from nasdistill.artifacts import Artifact
from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.distill.task import Distillation
from nasdistill.errors import Interrupted, SpecError
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES, Outcome
from nasdistill.storage import read_json
from nasdistill.training.tasks import Supervised, Task
from tests.stages.parts import context_in, equal, network_artifact, stop_in, watch, weights

TRAINED: dict[str, tuple[dict[str, Any], type[Task]]] = {
    "train": ({"model": "wrn-10-1"}, Supervised),
    "distill": ({"student": "wrn-10-1", "teacher": "teacher", "show": []}, Distillation),
}
LOOP = {"epochs": 2, "batch_size": 32}
RARE, COMMON = 12, 108


@pytest.fixture(scope="module")
def data() -> Data:
    """Nines against ones: 12 and 108 images to train on, 10 and 90 of the test set."""
    whole: Data = load(registry("datasets").parse("digits"), 0)

    def few(labels: torch.Tensor, rare: int, common: int) -> torch.Tensor:
        ones, nines = ((labels == label).nonzero().flatten() for label in (1, 9))
        return torch.cat([ones[:common], nines[:rare]])

    parts: dict[str, Any] = {}
    for name, (rare, common) in {"train": (RARE, COMMON), "validation": (5, 10), "test": (5, 30)}.items():
        part = getattr(whole, name)
        chosen = part.subset(few(part.labels, rare, common))
        parts[name] = dataclasses.replace(chosen, labels=(chosen.labels == 9).long())
    moving = (AUGMENTATIONS.parse({"name": "crop", "padding": 1}),)
    return dataclasses.replace(whole, **parts, classes=("one", "nine"), augmentations=moving)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Artifact:
    return network_artifact(tmp_path_factory.mktemp("teacher") / "given", data, "wrn-10-2")


def run(folder: Path, uses: str, data: Data, teacher: Artifact, **options: Any) -> tuple[Path, Outcome]:
    """The payload of a stage; what teachers said is kept for all that run in folders beside each other."""
    stage = build(STAGES.get(uses), {**TRAINED[uses][0], **LOOP, **options})
    context = context_in(folder, data, cache=folder.parent / "cache")
    return context.folder, stage.run({"teacher": teacher}, context)


@pytest.mark.parametrize("uses", TRAINED)
def test_both_classes_count_the_same(
    uses: str, tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, TRAINED[uses][1])
    folders, shares = [], {}
    for balance in ("none", "sampling", "loss"):
        folders.append(run(tmp_path / balance, uses, data, teacher, balance=balance, epochs=5)[0])
        labels = torch.cat([batch.labels for batch in seen])
        assert len(labels) == 5 * (RARE + COMMON)
        shares[balance] = float(labels.double().mean())
        weighed = [batch.weights for batch in seen if batch.weights is not None]
        if balance == "loss":
            expected = compute_sample_weight("balanced", labels.numpy())  # every epoch has every image once
            numpy.testing.assert_allclose(torch.cat(weighed), expected, rtol=1e-6)
        else:
            assert not weighed
        seen.clear()
    assert shares["none"] == shares["loss"] == RARE / (RARE + COMMON)
    assert shares["sampling"] == pytest.approx(0.5, abs=4 * 0.5 / 600**0.5)
    one, two, three = map(weights, folders)
    assert not equal(one, two)
    assert not equal(one, three)


@pytest.mark.parametrize("uses", TRAINED)
def test_a_few_images_of_each_class_are_drawn_as_long_as_a_full_epoch(
    uses: str, tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, TRAINED[uses][1])
    for full_epochs, images in ((True, RARE + COMMON), (False, 10)):
        options = {"images_per_class": 5, "full_epochs": full_epochs, "balance": "sampling", "augment": False}
        run(tmp_path / str(full_epochs), uses, data, teacher, epochs=1, **options)
        assert sum(len(batch.labels) for batch in seen) == images
        assert set(torch.cat([batch.indices for batch in seen]).tolist()) <= set(range(10))
        seen.clear()


@pytest.mark.parametrize("balance", ["sampling", "loss"])
@pytest.mark.parametrize("uses", TRAINED)
def test_a_stopped_training_ends_with_the_same_bits(
    balance: str, uses: str, tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"balance": balance, "select": "balanced-accuracy", "epochs": 3}
    if uses == "distill":
        options |= {"objectives": ["ban", "attention"], "views": 2, "cache_outputs": True}
    whole, _ = run(tmp_path / "whole" / "run", uses, data, teacher, **options)
    taken = stop_in(monkeypatch, TRAINED[uses][1], 6)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken" / "run", uses, data, teacher, **options)
    torch.rand(7)  # what another process drew before must not matter
    again, _ = run(tmp_path / "broken" / "run", uses, data, teacher, **options)
    assert taken["steps"] == 3 * 4
    assert equal(weights(again), weights(whole))


def test_kept_outputs_are_those_of_the_same_order(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    """Weights of images change nothing that a teacher says; images drawn with replacement are other batches."""
    alone, together = (
        [
            weights(run(place(balance), "distill", data, teacher, balance=balance, cache_outputs=True)[0])
            for balance in ("none", "loss", "sampling")
        ]
        for place in (lambda b: tmp_path / b / "run", lambda b: tmp_path / "together" / b)
    )
    assert all(equal(*pair) for pair in zip(alone, together, strict=True))
    assert len(list((tmp_path / "together" / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("objectives", "names"),
    [
        ([{"name": "cross-entropy", "weight": 0}, "attention"], "attention"),
        ([{"name": "crd", "weight": 0.8}, {"name": "cross-entropy", "weight": 0}, "rkd"], "crd, rkd"),
        (["divergence"], "divergence"),
    ],
)
def test_weights_that_no_objective_reads_are_refused(objectives: list[Any], names: str) -> None:
    given = {"student": "wrn-10-1", "teacher": "teacher", "objectives": objectives}
    with pytest.raises(SpecError) as refused:
        build(STAGES.get("distill"), {**given, "balance": "loss"})
    assert refused.value.path == ("balance",)
    assert refused.value.problem == (
        f"none of the objectives that count ({names}) weighs images; take `sampling`, or list cross-entropy"
    )
    build(STAGES.get("distill"), {**given, "balance": "sampling"})


@pytest.mark.parametrize("objectives", [["attention"], ["kd"], ["ban"], ["cwtm"], ["dkpp", "rkd"], ["logits-mse"]])
def test_weights_that_one_objective_reads_are_taken(objectives: list[Any]) -> None:
    given = {"student": "wrn-10-1", "teacher": "teacher", "objectives": objectives}
    assert build(STAGES.get("distill"), {**given, "balance": "loss"})


@pytest.mark.parametrize(
    ("select", "selected", "score", "ended"),
    [("accuracy", 1, 90.0, 3), ("balanced-accuracy", 3, 70.0, 5), ("loss", 2, 85.0, 4)],
)
@pytest.mark.parametrize("uses", TRAINED)
def test_what_selects_decides_which_weights_are_kept_and_when_patience_ends(
    uses: str,
    select: str,
    selected: int,
    score: float,
    ended: int,
    tmp_path: Path,
    data: Data,
    teacher: Artifact,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {
        "validation/accuracy": [90.0, 85.0, 80.0, 75.0, 70.0, 65.0],
        "validation/balanced accuracy": [60.0, 60.0, 70.0, 65.0, 65.0, 65.0],
        "validation/loss": [0.2, 0.1, 0.3, 0.2, 0.2, 0.2],
    }
    kept: list[dict[str, torch.Tensor]] = []

    def scored(self: Task, network: torch.nn.Module, *_: Any) -> dict[str, float]:
        kept.append({name: value.clone() for name, value in network.state_dict().items()})
        return {name: values[len(kept) - 1] for name, values in told.items()} | {"test/accuracy": 50.0}

    monkeypatch.setattr(Task, "score", scored)
    folder, outcome = run(tmp_path, uses, data, teacher, select=select, epochs=6, patience=2)
    assert outcome.metrics["best_epoch"] == read_json(folder / "history.json")["selected_epoch"] == selected
    kind = {"of": "balanced accuracy"} if select == "balanced-accuracy" else {}
    assert outcome.metrics["validation"] == {"score": score, "loss": told["validation/loss"][selected - 1], **kind}
    assert equal(weights(folder), kept[selected - 1])
    assert len(kept) == ended
    better = "lower validation loss" if select == "loss" else "better validation score"
    assert outcome.metrics["stopped"] == f"2 evaluations without a {better}"


def test_two_classes_have_an_area_under_the_curve(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    folder, outcome = run(tmp_path / "run", "train", data, teacher)
    matrix = numpy.array(read_json(folder / "confusion.json")["matrix"])
    recall = matrix.diagonal() / matrix.sum(1)
    assert outcome.metrics["balanced_accuracy"] == pytest.approx(100 * recall.mean())
    assert outcome.metrics["imbalance"] == 6
    assert 0 <= outcome.metrics["auc"] <= 1


def test_classes_of_one_size_are_told(
    tmp_path: Path, data: Data, teacher: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(tmp_path / "unequal", "train", data, teacher, balance="loss", epochs=1)
    assert "balance by loss: the classes have 12 to 108 training images" in caplog.messages
    run(tmp_path / "equal", "train", data, teacher, balance="loss", epochs=1, images_per_class=5)
    told = "all classes have 5 training images, so balance by loss has nothing to do"
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [told]
