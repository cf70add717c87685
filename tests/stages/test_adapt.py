"""A trained network for other images and classes: what must stay stays to rounding, and the result trains on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import Data, ImageSet, Normalisation
from nasdistill.errors import SpecError
from nasdistill.models.base import load_network
from nasdistill.registry import build
from nasdistill.stages import STAGES, Outcome
from tests.stages.parts import context_in, network_artifact, weights

COLOURS = Normalisation(mean=(0.2, 0.5, 0.7), std=(0.5, 0.1, 0.3))
GREY = Normalisation(mean=(0.4,), std=(0.25,))


def adapted(folder: Path, network: Artifact, data: Data, **options: Any) -> tuple[Path, Outcome]:
    context = context_in(folder, data)
    stage = build(STAGES.get("adapt"), {"network": "given", **options})
    return context.folder, stage.run({"network": network}, context)


def answers(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    """What the network in a folder says of pixels in [0, 1], normalised as its spec says."""
    spec, network = load_network(folder)
    assert spec.normalisation is not None
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (spec.normalisation.mean, spec.normalisation.std))
    with torch.no_grad():
        logits: torch.Tensor = network((pixels - mean) / std)
    return logits


def in_colour(data: Data, side: int = 8, classes: int = 10) -> Data:
    """The digits in three equal colours, cut to a part of their pixels and classes."""

    def converted(part: Any) -> ImageSet:
        few = part.subset((part.labels < classes).nonzero().flatten())
        return ImageSet(few.images.expand(-1, 3, -1, -1)[..., :side, :side].contiguous(), few.labels)

    parts: dict[str, Any] = {name: converted(getattr(data, name)) for name in ("train", "validation", "test")}
    return dataclasses.replace(data, **parts, classes=data.classes[:classes], normalisation=COLOURS)


@pytest.mark.parametrize(("own", "grey"), [(GREY, True), (GREY, False), (COLOURS, True), (COLOURS, False)])
@pytest.mark.parametrize("model", ["wrn-10-1", "mlp-16"])
def test_the_same_pixels_have_the_same_logits(
    model: str, own: Normalisation, grey: bool, tmp_path: Path, data: Data
) -> None:
    """Of grey images, which are one with three equal colours: in another normalisation and with other channels."""
    channels = len(own.mean)
    given = network_artifact(tmp_path / "given", data, model, shape=(channels, 8, 8), normalisation=own)
    pixels = data.test.images[:9] / 255  # type: ignore[union-attr]
    folder, _ = adapted(tmp_path, given, data if grey else in_colour(data))
    expected = answers(given.folder, pixels.expand(-1, channels, -1, -1))
    found = answers(folder, pixels.expand(-1, 1 if grey else 3, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_new_head_on_smaller_images_keeps_all_else_and_trains(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "wrn-10-1")
    other = in_colour(data, side=6, classes=4)
    folder, outcome = adapted(tmp_path / "adapt", given, other, head="new")
    assert outcome.metrics["drawn"] == ["classifier.bias", "classifier.weight"]
    before, after = weights(given.folder), weights(folder)
    assert after["network.classifier.weight"].shape == (4, 64)
    for name, value in before.items():
        assert name.startswith("classifier") or torch.equal(after[f"network.{name}"], value)
    spec, network = load_network(folder)
    assert (spec.shape, spec.classes, spec.labels) == ((3, 6, 6), 4, ("0", "1", "2", "3"))
    assert network.feature_points == ("network.groups.0", "network.groups.1", "network.groups.2")

    manifest: dict[str, Any] = {"config": {}, "inputs": {}, "metrics": {}, "cost": {}, "provenance": {}}
    place = tmp_path / "as-artifact"
    artifact = publish(folder, place, kind="network", stage="adapt", uses="adapt", key="0", seed=0, **manifest)
    options = {"student": "adapted", "teacher": "teacher", "epochs": 1, "show": [], "objectives": ["kd", "attention"]}
    context = context_in(tmp_path / "distil", other)
    build(STAGES.get("distill"), options).run({"student": artifact, "teacher": artifact}, context)
    trained = weights(context.folder)
    assert trained.keys() == after.keys()
    assert not torch.equal(trained["network.stem.weight"], after["network.stem.weight"])


def test_a_new_head_for_as_many_classes_is_new_too(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-16")
    folder, outcome = adapted(tmp_path, given, data, head="new")
    assert outcome.metrics["drawn"] == ["classifier.bias", "classifier.weight"]
    assert not torch.equal(weights(folder)["classifier.weight"], weights(given.folder)["classifier.weight"])
    assert torch.equal(weights(folder)["hidden.0.0.weight"], weights(given.folder)["hidden.0.0.weight"])


def test_a_new_head_is_the_same_whatever_the_process_did_before(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-16")
    heads = []
    for before in range(2):
        torch.manual_seed(before)
        folder, _ = adapted(tmp_path / str(before), given, data, head="new")
        heads.append(weights(folder)["classifier.weight"])
    assert torch.equal(*heads)


def test_what_cannot_be_kept_is_refused_by_name(tmp_path: Path, data: Data) -> None:
    perceptron = network_artifact(tmp_path / "perceptron", data, "mlp-16")
    small = in_colour(data, side=6)
    refusal = (
        r"hidden.0.0.weight is \[16, 64\] at 8x8 pixels and \[16, 36\] at 6x6: the weights of this mlp belong to one"
    )
    with pytest.raises(SpecError, match=refusal):
        adapted(tmp_path, perceptron, small)
    with pytest.raises(SpecError, match=r"the data set has '0', '1', '2', '3'; `new` fits it") as told:
        adapted(tmp_path, perceptron, in_colour(data, classes=4))
    assert told.value.path == ("head",)
    unknown = network_artifact(tmp_path / "unknown", data, "wrn-10-1", normalisation=None)
    with pytest.raises(SpecError, match=r"reads 1 channel.* has 3; what its own images were normalised with must be"):
        adapted(tmp_path, unknown, small)
    untrained = network_artifact(tmp_path / "untrained", data, "wrn-10-1", trained=False)
    with pytest.raises(SpecError, match="'given' has no trained weights"):
        adapted(tmp_path, untrained, data)
