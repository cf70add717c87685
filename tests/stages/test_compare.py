"""The stage `compare`: what it measures by hand and by scipy, what it refuses, and that it goes on where it stopped."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import rel_entr, softmax

from nasdistill import interrupts
from nasdistill.artifacts import Artifact, open_artifact
from nasdistill.data.base import Data, ImageSet, Normalisation
from nasdistill.errors import Interrupted, SpecError, UserError
from nasdistill.models.base import WEIGHTS, load_network
from nasdistill.registry import build
from nasdistill.stages import STAGES, Context
from nasdistill.storage import read_json
from nasdistill.training.records import Progress
from tests.stages.parts import context_in, network_artifact, turn_head

OWN = Normalisation(mean=(0.5,), std=(0.4,))
SHORT: dict[str, Any] = {"images": 6, "steps": 4}


@pytest.fixture
def pair(tmp_path: Path, data: Data) -> dict[str, Artifact]:
    """Two networks of different normalisations that agree on some images and not on all."""
    student = network_artifact(tmp_path / "student", data, "wrn-10-1")
    return {"student": student, "teacher": network_artifact(tmp_path / "teacher", data, "wrn-10-1", normalisation=OWN)}


def compare(context: Context, pair: dict[str, Artifact], **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    stage = build(STAGES.get("compare"), {"student": "one", "teacher": "other", **SHORT, **options})
    return stage.run(pair, context).metrics, read_json(context.folder / "transition.json")


def logits(network: Artifact, images: torch.Tensor, normalisation: Normalisation) -> np.ndarray:
    _, module = load_network(network.folder)
    with torch.no_grad():
        said: np.ndarray = module((images / 255 - normalisation.mean[0]) / normalisation.std[0]).double().numpy()
    return said


def test_agreement_divergence_and_accuracies(tmp_path: Path, data: Data, pair: dict[str, Artifact]) -> None:
    metrics, told = compare(context_in(tmp_path, data), pair)
    assert isinstance(data.test, ImageSet)
    ours = logits(pair["student"], data.test.images, data.normalisation)
    theirs = logits(pair["teacher"], data.test.images, OWN)
    truth = data.test.labels.numpy()
    alike = ours.argmax(1) == theirs.argmax(1)
    assert 6 < alike.sum() < len(truth), "the case is too easy"
    assert metrics["agreement"] == pytest.approx(100 * alike.mean())
    assert metrics["kl"] == pytest.approx(
        rel_entr(softmax(theirs, axis=1), softmax(ours, axis=1)).sum(1).mean(), rel=1e-4
    )
    assert metrics["student_accuracy"] == pytest.approx(100 * (ours.argmax(1) == truth).mean())
    assert metrics["teacher_accuracy"] == pytest.approx(100 * (theirs.argmax(1) == truth).mean())
    assert metrics["images"] == 6
    assert told["paths"] == 6 * 9
    assert metrics["mean_transition_error"] == pytest.approx(np.mean(told["error"]), abs=1e-5)
    assert metrics["mean_transition_error"] > 1e-4


def test_a_network_beside_itself(tmp_path: Path, data: Data, pair: dict[str, Artifact]) -> None:
    metrics, told = compare(context_in(tmp_path, data), {"student": pair["student"], "teacher": pair["student"]})
    assert (metrics["mean_transition_error"], metrics["agreement"], metrics["kl"]) == (0.0, 100.0, 0.0)
    assert told["student"] == told["teacher"]


def test_paths_walked_together_decide_nothing(tmp_path: Path, data: Data, pair: dict[str, Artifact]) -> None:
    errors = [
        compare(context_in(tmp_path / str(size), data), pair, batch_size=size)[0]["mean_transition_error"]
        for size in (5, 54)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_the_engines_precision_is_a_choice(tmp_path: Path, data: Data, pair: dict[str, Artifact]) -> None:
    told = {}
    for precision, reduced in (("32", "none"), ("bf16", "none"), ("bf16", "teacher"), ("bf16", "both")):
        context = context_in(tmp_path / precision / reduced, data)
        context.engine_settings = context.engine_settings.model_copy(update={"precision": precision})
        told[precision, reduced] = compare(context, pair, reduced_precision=reduced)[1]
    full = told["32", "none"]
    assert told["bf16", "none"] == full
    for reduced, changed in (("teacher", ["teacher"]), ("both", ["student", "teacher"])):
        found = told["bf16", reduced]
        assert [who for who in ("student", "teacher") if found[who] != full[who]] == changed
        np.testing.assert_allclose([found[who] for who in changed], [full[who] for who in changed], rtol=0.05)


def test_all_images_are_used_where_fewer_agree(
    tmp_path: Path, data: Data, pair: dict[str, Artifact], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        metrics, told = compare(context_in(tmp_path, data), pair, images=80, steps=1)
    agreed = round(0.8 * metrics["agreement"])
    assert (metrics["images"], told["paths"]) == (agreed, 9 * agreed)
    assert f"agree on {agreed} of 80 test images, fewer than the 80 that were asked for" in caplog.text


def test_networks_that_never_agree_are_refused(tmp_path: Path, data: Data, pair: dict[str, Artifact]) -> None:
    """The teacher says everything one class further on."""
    teacher = shutil.copytree(pair["student"].folder, tmp_path / "turned")
    state = load_file(teacher / WEIGHTS)
    turned = {name: state[name].roll(1, 0) for name in ("classifier.weight", "classifier.bias")}
    save_file({**state, **turned}, teacher / WEIGHTS)
    pair["teacher"] = open_artifact(teacher, verify=False)
    with pytest.raises(UserError, match="agree on 0 of 80 test images, so that there is none to start from"):
        compare(context_in(tmp_path, data), pair)


@pytest.mark.parametrize("after", [1, 5, 8, 11])
def test_a_stopped_walk_ends_with_the_same_bits(
    tmp_path: Path, data: Data, pair: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Three batches of four steps: in the middle of a path, after its last step, in the last batch."""
    whole = compare(context_in(tmp_path / "whole", data), pair, batch_size=20)
    step, taken = Progress.step, []

    def counted(self: Progress, note: str = "") -> None:
        taken.append(self.done)
        monkeypatch.setattr(interrupts, "_requested", 2 if len(taken) == after else None)
        step(self, note)

    monkeypatch.setattr(Progress, "step", counted)
    with pytest.raises(Interrupted):
        compare(context_in(tmp_path / "cut", data), pair, batch_size=20)
    monkeypatch.setattr(interrupts, "_requested", None)
    assert compare(context_in(tmp_path / "cut", data), pair, batch_size=20) == whole
    # the step in which the stop was heard is on disk, though its progress was never shown
    assert taken == [*range(after), *range(after + 1, 12)]


@pytest.mark.parametrize(
    ("field", "changes", "sentence"),
    [
        ("student", {"trained": False}, "'one' has no trained weights"),
        ("teacher", {"trained": False}, "'other' has no trained weights"),
        ("teacher", {"shape": (3, 8, 8)}, "the teacher 'other' is made for images of 3x8x8 in 10 classes"),
        ("teacher", {"classes": 7}, "in 7 classes; the data set has 1x8x8 in 10 classes"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    tmp_path: Path, data: Data, pair: dict[str, Artifact], field: str, changes: dict[str, Any], sentence: str
) -> None:
    pair[field] = network_artifact(tmp_path / "odd", data, "wrn-10-1", **changes)
    with pytest.raises(SpecError, match=sentence) as caught:
        compare(context_in(tmp_path, data), pair)
    assert caught.value.path == (field,)


def test_networks_of_other_classes_are_refused_and_those_in_another_order_mapped(tmp_path: Path, data: Data) -> None:
    letters = tuple("abcdefghij")
    pair = {
        "student": network_artifact(tmp_path / "student", data, "mlp-8", labels=data.classes),
        "teacher": network_artifact(tmp_path / "teacher", data, "mlp-8", labels=letters),
    }
    with pytest.raises(SpecError, match=r"'other' was trained on the classes 'a', .* here are '0', ") as caught:
        compare(context_in(tmp_path, data), pair)
    assert caught.value.path == ("teacher",)
    pair["teacher"] = network_artifact(tmp_path / "turned", data, "mlp-8", labels=data.classes[::-1])
    turn_head(pair["teacher"])
    metrics, transition = compare(context_in(tmp_path, data), pair)
    assert transition["classes"][0]["label"] == "0"
    assert (metrics["agreement"], metrics["kl"]) == (100, 0), "it is the student, with its head turned"


def test_a_step_size_that_leads_nowhere_is_named(tmp_path: Path, data: Data, pair: dict[str, Artifact]) -> None:
    with pytest.raises(SpecError, match="images grew beyond all bounds; take a step_size below 1e"):
        compare(context_in(tmp_path, data), pair, step_size=1e45)
