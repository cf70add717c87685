"""The stage `export`: what it takes, what it writes."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nasdistill.api import load_data, train
from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import DATASETS, Normalisation
from nasdistill.data.loaders import scale_and_shift
from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS, NetworkSpec, load_network, save_network
from nasdistill.models.classifier import from_artifact, from_onnx
from nasdistill.stages.base import STAGES, Context
from nasdistill.training.engine import EngineSettings
from nasdistill.training.records import Records
from nasdistill.words import share_interval


@pytest.mark.parametrize(
    ("given", "formats"),
    [
        ("onnx", ["onnx"]),
        (["onnx", "torch"], ["onnx", "torch"]),
        ({"name": "onnx", "tolerance": 0.1}, ["onnx"]),
        (None, ["onnx"]),
    ],
)
def test_one_format_or_several(given: Any, formats: list[str]) -> None:
    options = {"network": "student"} if given is None else {"network": "student", "format": given}
    assert [exporter.registered_name for exporter in STAGES.parse({"name": "export", **options}).format] == formats


def test_an_unknown_format_gives_the_nearest() -> None:
    with pytest.raises(SpecError, match="unknown exporter 'onx'; did you mean 'onnx'"):
        STAGES.parse({"name": "export", "network": "student", "format": "onx"})


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A network for digits, whose classifier knows something."""
    folder = tmp_path_factory.mktemp("network")
    data = load_data("digits", limit=200)
    trained = train("mlp-16", data, epochs=8, quiet=True)
    save_network(folder / "prepared", trained.spec, trained.module)
    return publish_network(folder / "prepared", folder / "network")


def publish_network(prepared: Path, place: Path) -> Artifact:
    return publish(
        prepared,
        place,
        kind="network",
        config={},
        inputs={},
        seed=0,
        metrics={},
        cost={},
        provenance={},
        **dict.fromkeys(("stage", "uses", "key"), "train"),
    )


def exported(network: Artifact, folder: Path, data: Any, **options: Any) -> dict[str, Any]:
    stage = STAGES.parse({"name": "export", "network": "student", **options})
    dataset = DATASETS.parse(data)
    stage.check_data(dataset)
    folder.mkdir()
    engine = EngineSettings(accelerator="cpu")
    context = Context("export", folder, folder, Records(None, "export", True), 0, dataset, engine)
    return stage.run({"network": network}, context).metrics


def test_without_data_the_files_are_checked_and_timed(network: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "payload"
    metrics = exported(network, folder, "none", format=["onnx", "torch"])
    assert (metrics["parameters"], metrics["multiply_adds"]) == (64 * 16 + 16 + 16 * 10 + 10, 64 * 16 + 16 * 10)
    assert sorted(path.name for path in folder.iterdir()) == ["model-card.md", "network.onnx", "network.pt2"]
    for told in metrics["exports"].values():
        assert told["bytes"] == (folder / told["file"]).stat().st_size
        assert told["difference"] < 1e-5
        assert "accuracy" not in told
    assert metrics["bytes"] == metrics["exports"]["onnx"]["bytes"]
    assert metrics["latency_ms"] == metrics["export_latency_ms"]["onnx"] > 0
    assert set(metrics["export_latency_ms"]) == {"onnx", "torch"}
    assert "test accuracy |" not in (folder / "model-card.md").read_text()


def test_with_data_each_file_is_scored_on_the_test_images_in_its_runtime(network: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "payload"
    metrics = exported(network, folder, {"name": "digits", "limit": 200}, format=["onnx", "onnx-int8"])
    data = load_data("digits", limit=200)
    spec, module = load_network(network.folder)
    scale, shift = scale_and_shift(spec.normalisation, torch.device("cpu"))
    with torch.no_grad():
        predicted = module(data.test.images * scale + shift).argmax(1)
    accuracy = 100 * float((predicted == data.test.labels).double().mean())
    of_onnx, of_int8 = metrics["exports"]["onnx"], metrics["exports"]["onnx-int8"]
    assert of_onnx["accuracy"] == pytest.approx(accuracy)
    assert of_onnx["agreement"] == 100
    assert metrics["accuracy"] == {"last": accuracy, "best": accuracy, "selected": accuracy}
    assert metrics["misclassified"] == int((predicted != data.test.labels).sum())
    assert 90 < of_int8["agreement"] <= 100
    low, high = (100 * end for end in share_interval(accuracy / 100, len(predicted)))
    card = (folder / "model-card.md").read_text()
    assert f"{accuracy:.2f} % of {len(predicted)} images; 95 % interval {low:.1f} to {high:.1f} %" in card
    assert all(f"`{told['file']}` | {name} |" in card for name, told in metrics["exports"].items())


@pytest.mark.parametrize("preprocessing", [False, True])
def test_the_program_on_the_card_runs(network: Artifact, tmp_path: Path, preprocessing: bool) -> None:
    folder = tmp_path / "payload"
    exported(network, folder, "none", format={"name": "onnx", "preprocessing": preprocessing})
    digits = load_data("digits").test
    Image.fromarray(digits.images[0, 0].numpy()).save(folder / "photo.png")
    Image.fromarray(digits.images[0, 0].numpy().astype("uint16") * 257).save(folder / "sixteen-bits.png")
    _before, program, _after = re.split("```(?:python)?\n", (folder / "model-card.md").read_text())
    both = "\n".join(program.replace("photo.jpg", name) for name in ("photo.png", "sixteen-bits.png"))
    done = subprocess.run([sys.executable, "-c", both], cwd=folder, capture_output=True, text=True, check=True)
    answer = from_onnx(folder / "network.onnx").probabilities(digits.images[:1].permute(0, 2, 3, 1).numpy()).argmax()
    assert done.stdout == f"{answer}\n" * 2


def test_pictures_come_to_a_network_as_its_training_images_did(tmp_path: Path) -> None:
    """To the data set's size first where the network resizes: straight to its own they would be sharper than these."""
    half = Normalisation(mean=(0.5,), std=(0.5,))
    model = MODELS.parse("mlp-16@12")
    spec = NetworkSpec(model=model, shape=(1, 8, 8), classes=2, labels=("a", "b"), normalisation=half, resize="crop")
    save_network(tmp_path / "prepared", spec, spec.build())
    artifact = publish_network(tmp_path / "prepared", tmp_path / "network")
    exported(artifact, tmp_path / "payload", "none")
    photo = Image.effect_noise((40, 30), 80)
    photo.save(tmp_path / "payload/photo.png")
    bilinear = Image.Resampling.BILINEAR
    expected = np.array(ImageOps.fit(photo, (8, 8), bilinear).resize((12, 12), bilinear))
    classifiers = from_artifact(artifact.folder), from_onnx(tmp_path / "payload/network.onnx")
    for classifier in classifiers:
        assert np.array_equal(classifier.pixels(tmp_path / "payload/photo.png")[..., 0], expected)
    one, other = (classifier.probabilities(expected[None, ..., None]) for classifier in classifiers)
    assert one == pytest.approx(other, abs=1e-5)
    _before, program, _after = re.split("```(?:python)?\n", (tmp_path / "payload/model-card.md").read_text())
    done = subprocess.run(
        [sys.executable, "-c", program.replace("photo.jpg", "photo.png") + "print(pixels[..., 0].tolist())"],
        cwd=tmp_path / "payload", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[1] == str(expected.tolist())


def test_other_data_are_told_and_cost_no_file(
    network: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"name": "digits", "limit": 200}
    spec, module = load_network(network.folder)
    fewer = spec.model_copy(update={"labels": tuple(reversed(spec.labels or ()))})
    save_network(tmp_path / "prepared", fewer, module)
    with caplog.at_level(logging.WARNING):
        metrics = exported(publish_network(tmp_path / "prepared", tmp_path / "other"), tmp_path / "payload", data)
    assert "files are not scored: the network 'student' has other classes than the data set" in caplog.text
    assert "accuracy" not in metrics["exports"]["onnx"]


@pytest.mark.parametrize(
    ("format", "words"),
    [
        (["onnx", "onnx-int8"], "'onnx-int8' takes the ranges of activations from training images, and here are none"),
        (["onnx", {"name": "onnx", "opset": 18}], "'onnx' stands here twice, and both would write the same file"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_runs(format: Any, words: str) -> None:
    stage = STAGES.parse({"name": "export", "network": "student", "format": format})
    with pytest.raises(SpecError, match=words):
        stage.check_data(DATASETS.parse("none"))
