"""The stage `ensemble`: what it writes against the networks themselves, what it refuses, and what others do with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import Data, ImageSet, Normalisation
from nasdistill.errors import SpecError
from nasdistill.models import agreement, inspection
from nasdistill.models.base import load_network, load_spec
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.registry import build
from nasdistill.report.payloads import EnsemblePayload, read
from nasdistill.stages import STAGES
from nasdistill.stages.base import Place
from nasdistill.storage import read_json
from tests.stages.parts import context_in, network_artifact, weights

OWN = Normalisation(mean=(0.5,), std=(0.4,))
DARTS = {"name": "darts", "genotype": "DARTS_V2", "cells": 3, "channels": 4, "auxiliary": True, "drop_path": 0.2}
CONFIG: dict[str, Any] = {"networks": ["a", "b", "c"], "beside": ["t"], "weights": [2, 1, 0.5]}


@pytest.fixture
def four(tmp_path: Path, data: Data) -> dict[Place, Artifact]:
    """Four architectures in three normalisations; nobody knows that of the last."""
    return {
        ("beside", 0): network_artifact(tmp_path / "t", data, "wrn-10-1"),
        ("networks", 0): network_artifact(tmp_path / "a", data, "resnet-8", normalisation=OWN),
        ("networks", 1): network_artifact(tmp_path / "b", data, DARTS),  # type: ignore[arg-type]
        ("networks", 2): network_artifact(tmp_path / "c", data, "mlp-16", normalisation=None),
    }


def ensemble(folder: Path, data: Data, inputs: dict[Place, Artifact], **options: Any) -> tuple[dict[str, Any], Path]:
    context = context_in(folder, data)
    return build(STAGES.get("ensemble"), {**CONFIG, **options}).run(inputs, context).metrics, context.folder


def probabilities(network: Artifact, data: Data) -> np.ndarray:
    """Of the test images, as the network says them alone."""
    spec, module = load_network(network.folder)
    normalisation = spec.normalisation or data.normalisation
    assert isinstance(data.test, ImageSet)
    with torch.no_grad():
        logits = module((data.test.images / 255 - normalisation.mean[0]) / normalisation.std[0])
    said: np.ndarray = softmax(logits.double().numpy(), axis=1)
    return said


def test_the_network_that_is_written_says_the_average(tmp_path: Path, data: Data, four: dict[Place, Artifact]) -> None:
    metrics, folder = ensemble(tmp_path, data, four)
    spec, network = load_network(folder)
    assert (spec.shape, spec.classes, spec.normalisation) == (data.shape, 10, OWN)
    assert isinstance(data.test, ImageSet)
    with torch.no_grad():
        logits = network((data.test.images / 255 - 0.5) / 0.4)
    each = [probabilities(four["networks", number], data) for number in range(3)]
    expected = (2 * each[0] + each[1] + 0.5 * each[2]) / 3.5
    np.testing.assert_allclose(logits.softmax(1).numpy(), expected, atol=1e-5)
    truth = data.test.labels.numpy()
    accuracy = pytest.approx(100 * (expected.argmax(1) == truth).mean())
    assert metrics["accuracy"] == {"last": accuracy, "best": accuracy, "selected": accuracy}
    assert metrics["loss"] == pytest.approx(-np.log(expected[range(80), truth]).mean(), rel=1e-4)
    confusion = read_json(folder / "confusion.json")
    assert confusion["labels"] == list(data.classes)
    assert np.trace(confusion["matrix"]) == round(0.8 * metrics["accuracy"]["last"])


def test_sizes_are_sums_of_the_members(tmp_path: Path, data: Data, four: dict[Place, Artifact]) -> None:
    metrics, _ = ensemble(tmp_path, data, four)
    members = [load_network(four["networks", number].folder)[1] for number in range(3)]
    assert metrics["parameters"] == sum(map(inspection.count_parameters, members))
    assert metrics["multiply_adds"] == sum(inspection.multiply_adds(member, data.shape) for member in members)
    assert metrics["bytes"] == sum(map(inspection.size_bytes, members))
    assert metrics["latency_ms"] > 0


def test_each_alone_and_the_first_ones_together(tmp_path: Path, data: Data, four: dict[Place, Artifact]) -> None:
    metrics, folder = ensemble(tmp_path, data, four)
    told = read(EnsemblePayload, folder)
    assert told is not None
    assert [(each.name, each.member) for each in told.networks] == [("t", False), ("a", True), ("b", True), ("c", True)]
    each = [probabilities(artifact, data) for artifact in four.values()]
    truth = data.test.labels.numpy()
    for found, said in zip(told.networks, each, strict=True):
        assert found.accuracy == pytest.approx(100 * (said.argmax(1) == truth).mean())
    first_two = (2 * each[1] + each[2]) / 3
    assert told.ensembles[0].loss == pytest.approx(-np.log(first_two[range(80), truth]).mean(), rel=1e-4)
    assert told.ensembles[1].loss == metrics["loss"]
    alike = 100 * (each[0].argmax(1) == each[3].argmax(1)).mean()
    assert told.agreement[0][3] == told.agreement[3][0] == pytest.approx(alike)


def test_each_network_runs_once_over_the_test_images(
    tmp_path: Path, data: Data, four: dict[Place, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasdistill.models.resnet import ResidualNetwork

    ran: list[int] = []
    forward = ResidualNetwork.forward

    def counted(self: ResidualNetwork, images: torch.Tensor) -> torch.Tensor:
        ran.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(ResidualNetwork, "forward", counted)
    ensemble(tmp_path, data, four)
    assert sum(count for count in ran if count > 2) == 80  # one or two at a time are measurements and checks


def test_each_average_is_taken_once(
    tmp_path: Path, data: Data, four: dict[Place, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    average = agreement.average_logits

    def counted(logits: list[torch.Tensor], *options: Any) -> torch.Tensor:
        taken.append(len(logits))
        return average(logits, *options)

    monkeypatch.setattr(agreement, "average_logits", counted)
    ensemble(tmp_path, data, four)
    assert sorted(taken) == [2, 3]


def test_networks_that_were_left_out_are_passed_over(tmp_path: Path, data: Data, four: dict[Place, Artifact]) -> None:
    del four[("networks", 1)]
    _, folder = ensemble(tmp_path, data, four)
    members = load_spec(folder).model.members
    assert [member.weight for member in members] == [2.0, 0.5]
    assert [each["name"] for each in read_json(folder / "ensemble.json")["networks"]] == ["t", "a", "c"]
    with pytest.raises(SpecError, match="none of the networks was made") as caught:
        ensemble(tmp_path / "none", data, {("beside", 0): four[("beside", 0)]})
    assert caught.value.path == ("networks",)


@pytest.mark.parametrize("field", [("networks", 1), ("beside", 0)])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trained": False}, "has no trained weights"),
        ({"shape": (3, 8, 8)}, "is made for images of 3x8x8 in 10 classes"),
        ({"classes": 7}, "in 7 classes; the data set has 1x8x8 in 10 classes"),
    ],
)
def test_networks_that_do_not_fit_are_named(
    tmp_path: Path,
    data: Data,
    four: dict[Place, Artifact],
    field: tuple[str, int],
    changes: dict[str, Any],
    sentence: str,
) -> None:
    four[field] = network_artifact(tmp_path / "odd", data, "wrn-10-1", **changes)
    with pytest.raises(SpecError, match=sentence) as caught:
        ensemble(tmp_path, data, four)
    assert caught.value.path == field


def test_members_of_other_classes_are_named(tmp_path: Path, data: Data, four: dict[Place, Artifact]) -> None:
    four[("networks", 0)] = network_artifact(tmp_path / "one", data, "mlp-8", labels=data.classes)
    four[("networks", 1)] = network_artifact(tmp_path / "odd", data, "mlp-8", labels=(*data.classes[:9], "ten"))
    with pytest.raises(SpecError, match=r"networks.1 'b' was trained on the classes 'ten' .* are '9' ") as caught:
        ensemble(tmp_path, data, four)
    assert caught.value.path == ("networks", 1)


def test_members_that_know_the_classes_in_another_order_count_as_if_in_the_datas(tmp_path: Path, data: Data) -> None:
    turned = data.classes[::-1]
    given = {("networks", 0): network_artifact(tmp_path / "given", data, "mlp-8", labels=turned)}
    _, folder = ensemble(tmp_path, data, given)
    assert load_spec(folder).labels == data.classes
    assert read_json(folder / "confusion.json")["labels"] == list(data.classes)
    before, after = weights(given[("networks", 0)].folder), weights(folder)
    assert torch.equal(after["members.0.classifier.weight"], before["classifier.weight"].flip(0))


def test_one_network_under_two_names_is_refused(tmp_path: Path, data: Data, four: dict[Place, Artifact]) -> None:
    four[("networks", 2)] = network_artifact(tmp_path / "again", data, "resnet-8", normalisation=OWN)
    with pytest.raises(SpecError, match="'c' is the same network as 'a', which would count one network") as caught:
        ensemble(tmp_path, data, four)
    assert caught.value.path == ("networks", 2)


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"networks": []}, ("networks",), "at least 1 must be given"),
        ({"networks": ["a", "b", "a"]}, ("networks", 2), "'a' stands here twice, which would count one network as two"),
        ({"networks": ["a", "t", "c"]}, ("networks", 1), "'t' stands here twice"),
        ({"weights": [1, 2]}, ("weights",), "2 weight(s) for 3 network(s)"),
        ({"weights": [1, 2, 0]}, ("weights", 2), "greater than 0"),
        ({"average": "medians"}, ("average",), "'probabilities' or 'logits'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], path: tuple[str | int, ...], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        build(STAGES.get("ensemble"), {**CONFIG, **options})
    assert error.value.path == path
    assert problem in error.value.problem


def test_bf16_scores_in_single_precision(tmp_path: Path, data: Data, four: dict[Place, Artifact]) -> None:
    context = context_in(tmp_path, data)
    context.engine_settings = context.engine_settings.model_copy(update={"precision": "bf16", "channels_last": True})
    build(STAGES.get("ensemble"), CONFIG).run(four, context)
    ensemble(tmp_path / "full", data, four)
    expected = read_json(tmp_path / "full" / "payload" / "ensemble.json")["networks"]
    found = read_json(context.folder / "ensemble.json")["networks"]
    assert [each["loss"] for each in found] == pytest.approx([each["loss"] for each in expected], rel=1e-5)


def published(tmp_path: Path, data: Data, four: dict[Place, Artifact], **options: Any) -> Artifact:
    metrics, folder = ensemble(tmp_path / "made", data, four, **options)
    empty: dict[str, Any] = {"config": {}, "inputs": {}, "cost": {}, "provenance": {}}
    place = tmp_path / "ensemble"
    return publish(folder, place, kind="network", stage="e", uses="ensemble", key="0", seed=0, metrics=metrics, **empty)


FEW: dict[str, Any] = {"pseudo_batches": 2, "batch_size": 8, "generator": {"name": "convolutional", "channels": 4}}


@pytest.mark.parametrize(
    ("uses", "fields", "options"),
    [
        ("evaluate", ["network"], {"network": "e"}),
        ("compare", ["student", "teacher"], {"student": "e", "teacher": "a", "images": 4, "steps": 2}),
        ("compare", ["teacher", "student"], {"student": "a", "teacher": "e", "images": 4, "steps": 2}),
        ("distill", ["teacher"], {"student": "mlp-8", "teacher": "e", "epochs": 1, "show": []}),
        ("distill", ["teacher"], {"student": "mlp-8", "teacher": "e", "epochs": 1, "show": [], "cache_outputs": True}),
        ("distill", ["student", "teacher"], {"student": "e", "teacher": "a", "epochs": 1, "show": []}),
        ("zero-shot", ["teacher"], {"student": "mlp-8", "teacher": "e", "objectives": ["divergence"], **FEW}),
        ("ensemble", [("networks", 0), ("beside", 0)], {"networks": ["e"], "beside": ["a"]}),
    ],
)
def test_it_is_a_network_like_any_other(
    tmp_path: Path, data: Data, four: dict[Place, Artifact], uses: str, fields: list[Place], options: dict[str, Any]
) -> None:
    made = published(tmp_path, data, four)
    inputs = dict(zip(fields, (made, four[("networks", 0)]), strict=False))
    context = context_in(tmp_path / "then", data)
    metrics = build(STAGES.get(uses), options).run(inputs, context).metrics
    if uses == "evaluate":
        for name in ("accuracy", "top5", "loss", "calibration_error", "parameters", "multiply_adds", "images"):
            assert metrics[name] == pytest.approx(made.manifest.metrics[name], rel=1e-4), name
    if uses == "ensemble":
        found = read_json(context.folder / "ensemble.json")["networks"][1]
        assert found["loss"] == pytest.approx(made.manifest.metrics["loss"], rel=1e-4)


RECIPE = """\
name: three-as-one
data: {name: digits, limit: 200}
engine: {accelerator: cpu, precision: "32"}
stages:
  - {name: first, uses: train, with: {model: mlp-32, epochs: 4}}
  - {name: second, uses: train, with: {model: wrn-10-1, epochs: 2}}
  - name: both
    uses: ensemble
    with: {networks: [first, second], weights: [2, 1], average: logits}
  - name: student
    uses: distill
    with: {student: mlp-16, teacher: both, epochs: 2, show: []}
  - {name: exported, uses: export, with: {network: both, format: [onnx, torch]}}
"""


def test_a_recipe_makes_it_teaches_with_it_and_exports_it(tmp_path: Path) -> None:
    path = tmp_path / "three-as-one.yaml"
    path.write_text(RECIPE)
    rows = {row.stage: row for row in run(load_recipe(str(path)), tmp_path / "out", "").rows}
    assert rows["both"].inputs == {"networks.0": rows["first"].content, "networks.1": rows["second"].content}
    assert rows["student"].inputs == {"teacher": rows["both"].content}
    exported = rows["exported"].folder
    assert exported is not None
    assert {file.name for file in exported.iterdir()} >= {"network.onnx", "network.pt2"}
    again = run(load_recipe(str(path), ["stages.both.weights=[1,1]"]), tmp_path / "out", "").rows
    assert [row.stage for row in again if not row.cached] == ["both", "student", "exported"]
