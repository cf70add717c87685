"""The stage `evaluate`: scores by hand and by scikit-learn, with the normalisation that the network was trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import confusion_matrix
from torch.nn import functional

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data, ImageSet, Normalisation
from nasdistill.errors import SpecError
from nasdistill.models.base import load_network
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.storage import read_json
from tests.stages.parts import SEED, context_in, network_artifact

OWN = Normalisation(mean=(0.9,), std=(0.05,))


def evaluate(folder: Path, data: Data, network: Artifact, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    context = context_in(folder, data)
    metrics = build(STAGES.get("evaluate"), {"network": "given", **options}).run({"network": network}, context).metrics
    return metrics, read_json(context.folder / "confusion.json")


def logits(network: Artifact, part: Any, normalisation: Normalisation) -> torch.Tensor:
    assert isinstance(part, ImageSet)
    _, module = load_network(network.folder)
    with torch.no_grad():
        found: torch.Tensor = module((part.images / 255 - normalisation.mean[0]) / normalisation.std[0])
    return found


def predictions(network: Artifact, part: Any, normalisation: Normalisation) -> torch.Tensor:
    return logits(network, part, normalisation).argmax(1)


def loss(network: Artifact, part: Any, normalisation: Normalisation) -> float:
    return float(functional.cross_entropy(logits(network, part, normalisation), part.labels))


@pytest.mark.parametrize("part", ["test", "validation", "train"])
def test_the_networks_own_normalisation_counts(tmp_path: Path, data: Data, part: str) -> None:
    network = network_artifact(tmp_path / "given", data, "mlp-16", normalisation=OWN)
    metrics, confusion = evaluate(tmp_path, data, network, part=part)
    images = getattr(data, part)
    predicted = predictions(network, images, OWN)
    assert not torch.equal(predicted, predictions(network, images, data.normalisation)), "the case is too easy"
    expected = 100 * float((predicted == images.labels).double().mean())
    assert metrics["accuracy"] == pytest.approx({"last": expected, "best": expected, "selected": expected})
    assert confusion["matrix"] == confusion_matrix(images.labels, predicted, labels=range(10)).tolist()
    assert metrics["images"] == len(images)
    # What experiments go by.
    wanted = {"score": pytest.approx(expected), "loss": pytest.approx(loss(network, images, OWN), rel=1e-5)}
    assert metrics.get("validation") == (wanted if part == "validation" else None)


def test_size_and_speed_are_told(tmp_path: Path, data: Data) -> None:
    metrics, _ = evaluate(tmp_path, data, network_artifact(tmp_path / "given", data, "mlp-16"))
    assert metrics["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert metrics["multiply_adds"] == 64 * 16 + 16 * 10
    assert metrics["latency_ms"] > 0
    assert metrics["accuracy"]["last"] <= metrics["top5"] <= 100
    assert 0 <= metrics["calibration_error"] <= 1


def test_other_class_names_are_refused_unless_told_otherwise(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-8", labels=tuple(f"garment {n}" for n in range(10)))
    with pytest.raises(SpecError, match=r"'garment 3', .* those here are '0', ") as caught:
        evaluate(tmp_path, data, given)
    assert caught.value.path == ("network",)
    _, confusion = evaluate(tmp_path, data, given, classes="by-position")
    assert confusion["labels"] == list(data.classes)


def test_an_architecture_without_weights_is_refused(tmp_path: Path, data: Data) -> None:
    network = network_artifact(tmp_path / "given", data, "mlp-8", trained=False)
    with pytest.raises(SpecError, match="no trained weights") as caught:
        evaluate(tmp_path, data, network)
    assert caught.value.path == ("network",)


def test_images_of_another_shape_are_refused(tmp_path: Path, data: Data) -> None:
    network = network_artifact(tmp_path / "given", data, "mlp-8", shape=(3, 32, 32))
    with pytest.raises(SpecError, match="3x32x32"):
        evaluate(tmp_path, data, network)


def test_a_network_whose_weights_are_no_numbers_is_refused_by_name(tmp_path: Path, data: Data) -> None:
    network = network_artifact(tmp_path / "given", data, "mlp-16")
    weights = load_file(network.folder / "weights.safetensors")
    weights["classifier.bias"][3] = torch.inf
    save_file(weights, network.folder / "weights.safetensors")
    with pytest.raises(SpecError, match=r"its weights 'classifier.bias' have values that are no numbers") as caught:
        evaluate(tmp_path, data, network)
    assert caught.value.path == ("network",)


@pytest.mark.parametrize(
    ("seed", "limit", "part", "warned"),
    [
        (SEED, None, "validation", False),
        (SEED + 1, None, "validation", True),
        (SEED, 500, "validation", True),
        (SEED + 1, None, "test", False),
    ],
)
def test_a_network_that_was_trained_on_the_validation_images_is_named(
    tmp_path: Path, data: Data, caplog: pytest.LogCaptureFixture, seed: int, limit: int | None, part: str, warned: bool
) -> None:
    identity = {"fingerprint": "of the digits", "limit": None, "validation": 0.1}
    given = network_artifact(tmp_path / "given", data, "mlp-8")
    manifest = {"seed": seed, "metrics": {"validation": {}}, "provenance": {"data": {**identity, "limit": limit}}}
    trained = dataclasses.replace(given, manifest=given.manifest.model_copy(update=manifest))
    context = context_in(tmp_path / "evaluate", data, data_identity=identity)
    build(STAGES.get("evaluate"), {"network": "given", "part": part}).run({"network": trained}, context)
    assert ("the network 'given' was trained on another split of the data" in caplog.text) is warned
