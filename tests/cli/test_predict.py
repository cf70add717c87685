"""`predict` tells the same from an artifact and from its ONNX file, and goes on past what it cannot read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from nasdistill.data.base import Normalisation
from nasdistill.models.base import NetworkSpec, load_network, save_network
from nasdistill.models.exporters import EXPORTERS
from tests.cli.conftest import Command, Done

LABELS = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an artifact `net`, its `net.onnx`, and `photos`: colour, grey, a text, and half a file."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    normalisation = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    spec = NetworkSpec(model="mlp-8", shape=(3, 8, 8), classes=3, labels=LABELS, normalisation=normalisation)
    network = spec.build()
    (folder / "net").mkdir()
    save_network(folder / "net", spec, network)
    EXPORTERS.parse("onnx").export(spec, network, folder)
    photos = folder / "photos"
    (photos / "deeper").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "colour.png")
    Image.fromarray(pixels[..., 0]).resize((20, 12)).save(photos / "grey.png")
    Image.fromarray(pixels).resize((64, 64)).save(photos / "deeper/whole.jpg")
    (photos / "notes.txt").write_text("no picture")
    (folder / "half.jpg").write_bytes((photos / "deeper/whole.jpg").read_bytes()[:700])
    (folder / "empty").mkdir()
    return folder


def predict(nasdistill: Command, *given: Path | str) -> Done:
    return nasdistill("predict", *map(str, given))


def told(text: str) -> dict[str, dict[str, float]]:
    return {
        Path(each["image"]).name: {found["class"]: found["probability"] for found in each["classes"]}
        for each in json.loads(text)
    }


def test_the_artifact_and_its_file_tell_what_the_network_computes(nasdistill: Command, made: Path) -> None:
    of_file = told(predict(nasdistill, made / "network.onnx", made / "photos", "--json").stdout)
    of_artifact = told(predict(nasdistill, made / "net", made / "photos", "--json").stdout)
    assert list(of_file) == list(of_artifact) == ["colour.png", "grey.png", "whole.jpg"]
    for name, found in of_file.items():
        assert found == pytest.approx(of_artifact[name], abs=1e-6)
    spec, network = load_network(made / "net")
    pixels = torch.from_numpy(np.array(Image.open(made / "photos/colour.png"))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (spec.normalisation.mean, spec.normalisation.std))
    expected = network(((pixels - mean) / std)[None]).softmax(1)[0].tolist()
    assert of_file["colour.png"] == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-6)
    assert [LABELS.index(name) for name in of_file["colour.png"]] == np.argsort(expected)[::-1].tolist()


def test_a_wide_picture_is_cropped_as_the_training_images_were(nasdistill: Command, made: Path, tmp_path: Path) -> None:
    middle = np.random.default_rng(1).integers(256, size=(8, 8, 3), dtype=np.uint8)
    Image.fromarray(np.hstack([middle * 0, middle, middle * 0])).save(tmp_path / "wide.png")
    Image.fromarray(middle).save(tmp_path / "middle.png")
    spec, network = load_network(made / "net")
    (tmp_path / "crops").mkdir()
    save_network(tmp_path / "crops", spec.model_copy(update={"resize": "crop"}), network)
    model = onnx.load(made / "network.onnx")
    (resize,) = (entry for entry in model.metadata_props if entry.key == "resize")
    resize.value = '"crop"'
    onnx.save(model, tmp_path / "crops.onnx")

    def answers(network: Path) -> list[dict[str, float]]:
        return list(told(predict(nasdistill, network, "wide.png", "middle.png", "--json").stdout).values())

    for crops in (tmp_path / "crops", tmp_path / "crops.onnx"):
        wide, of_middle = answers(crops)
        assert wide == pytest.approx(of_middle)
    wide, of_middle = answers(made / "net")
    assert wide != pytest.approx(of_middle)


def test_half_a_file_costs_no_other_and_shows_in_the_status(nasdistill: Command, made: Path) -> None:
    given = (made / "network.onnx", made / "half.jpg", made / "photos/grey.png")
    done = predict(nasdistill, *given, "--csv", "--top", "2")
    assert done.returncode == 2
    header, *lines = done.stdout.splitlines()
    assert header == "image,rank,class,probability"
    assert [line.split(",")[:2] for line in lines] == [[str(made / "photos/grey.png"), rank] for rank in "12"]
    assert f"1 of 2 images cannot be read: {made / 'half.jpg'}: OSError: image file is truncated" in done.stderr
    table = predict(nasdistill, *given)
    assert "half.jpg" not in table.stdout
    assert "grey.png" in table.stdout
    assert predict(nasdistill, made / "network.onnx", made / "half.jpg").stdout == ""


def test_a_file_needs_no_torch(made: Path) -> None:
    program = """
import sys
from nasdistill.cli.main import main
status = main(["predict", *sys.argv[1:]])
sys.exit(status or bool({"torch", "onnx", "scipy", "rich.progress", "sklearn"} & set(sys.modules)))
"""
    given = (made / "network.onnx", made / "photos", "--json")
    assert subprocess.run([sys.executable, "-c", program, *given], check=False, capture_output=True).returncode == 0


def exported_by_others(path: Path, metadata: dict[str, str]) -> Path:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "graph", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("network", "images", "words"),
    [
        ("network.onnx", "empty", "empty holds no images"),
        ("network.onnx", "nowhere", "there is no image or folder"),
        ("network.onnx", "photos/notes.txt", "the image cannot be read: .*notes.txt: none of PNG, JPEG"),
        ("photos/notes.txt", "photos", "onnxruntime .* does not read .*notes.txt"),
        ("empty", "photos", "empty holds no network: spec.json is missing"),
        ("nowhere", "photos", "there is no network .*nowhere"),
    ],
)
def test_mistakes(nasdistill: Command, made: Path, network: str, images: str, words: str) -> None:
    done = predict(nasdistill, made / network, made / images)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(words, done.stderr)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "was not exported by nasdistill: its metadata lack labels, normalisation, input_shape, classes"),
        ({"labels": "ant, bee"}, "was not exported by nasdistill: its metadata are no JSON"),
    ],
)
def test_files_of_others(nasdistill: Command, made: Path, tmp_path: Path, metadata: dict[str, str], words: str) -> None:
    done = predict(nasdistill, exported_by_others(tmp_path / "other.onnx", metadata), made / "photos")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_of_a_run_it_asks_the_network_that_the_page_says_to_take(nasdistill: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "two.yaml"
    recipe.write_text(
        "name: two\ndata: {name: digits, limit: 300}\nstages:\n"
        "  - {name: good, uses: train, with: {model: mlp-8, epochs: 3, batch_size: 32}}\n"
        "  - {name: bad, uses: train, with: {model: mlp-8, epochs: 1, optimizer: {name: sgd, lr: 1e-9}}}\n"
    )
    nasdistill("run", str(recipe), "--out", str(tmp_path / "out"))
    Image.new("L", (8, 8)).save(tmp_path / "dark.png")
    of_run, of_good, of_bad = (
        told(predict(nasdistill, folder, tmp_path / "dark.png", "--json", "--top", "10").stdout)
        for folder in (tmp_path / "out", *(tmp_path / "out" / "stages" / name for name in ("good", "bad")))
    )
    assert of_run == of_good != of_bad
