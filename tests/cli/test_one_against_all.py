"""From a folder of real pictures in two classes of unequal size to a network in a file, as the page tells it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy
import onnx
import onnxruntime
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tests.cli.conftest import Command

SCRIPT = Path(__file__).parents[2] / "docs" / "how-to" / "one_against_all.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_against_all", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["one_against_all.py", str(folder), "--class", "8", *arguments])
    script.main()


def read(folder: Path) -> dict[str, list[numpy.ndarray]]:
    """The pictures of each class, by its name."""
    found: dict[str, list[numpy.ndarray]] = {}
    for path in sorted(folder.glob("*/*.png")):
        found.setdefault(path.parent.name, []).append(numpy.asarray(Image.open(path)))
    return found


def test_pictures_are_the_digits_in_the_shares_asked_for(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(script, tmp_path / "eights", monkeypatch, "--times", "5", "--train", "300", "--test", "100")
    digits = load_digits()
    known = {
        (pixels * 255 / 16).round().astype(numpy.uint8).tobytes(): int(label)
        for pixels, label in zip(digits.images, digits.target, strict=True)
    }
    seen: list[bytes] = []
    for part, ones in (("train", 50), ("test", 16)):
        found = read(tmp_path / "eights" / part)
        assert {name: len(pictures) for name, pictures in found.items()} == {"8": ones, "others": 5 * ones}
        for name, pictures in found.items():
            labels = [known[picture.tobytes()] for picture in pictures]
            assert all((label == 8) == (name == "8") for label in labels)
            seen += [picture.tobytes() for picture in pictures]
    assert len(set(seen)) == len(seen) == 300 + 96


def test_without_bounds_all_of_the_rare_class_are_taken(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(script, tmp_path / "eights", monkeypatch, "--times", "2")
    ones = sum(len(read(tmp_path / "eights" / part)["8"]) for part in ("train", "test"))
    assert ones == (load_digits().target == 8).sum()


def test_from_a_folder_to_an_exported_ensemble(
    script: ModuleType, nasdistill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the exported file says of the pictures in the folder is what the run reported of its ensemble."""
    write(script, tmp_path / "eights", monkeypatch)
    made = "ban --model mlp-32 --generations 2 --data image-folder --data-root eights --epochs 8 --out run"
    done = nasdistill(*made.split(), "--balance", "sampling", "--select", "balanced-accuracy")
    assert done.returncode == 0, done.stderr
    assert "AUC" in done.stdout
    rows = {row["stage"]: row for row in json.loads((tmp_path / "run" / "results.json").read_text())}
    assert list(rows) == ["ban-0", "ban-1", "ban-2", "ban"]
    assert nasdistill("export", "run/stages/ban", "--out", "product").returncode == 0

    path = tmp_path / "product" / "stages" / "export" / "network.onnx"
    told = {prop.key: json.loads(prop.value) for prop in onnx.load(str(path)).metadata_props}
    assert told["labels"] == ["8", "others"]
    pictures = read(tmp_path / "eights" / "test")
    pixels = numpy.stack([picture for label in told["labels"] for picture in pictures[label]])[:, None] / 255
    truth = numpy.repeat([0, 1], [len(pictures[label]) for label in told["labels"]])
    mean, std = (numpy.array(told["normalisation"][name])[:, None, None] for name in ("mean", "std"))
    images = ((pixels - mean) / std).astype(numpy.float32)
    (logits,) = onnxruntime.InferenceSession(str(path)).run(["logits"], {"images": images})

    metrics = rows["ban"]["metrics"]
    assert metrics["imbalance"] == 10
    assert metrics["balanced_accuracy"] == pytest.approx(100 * balanced_accuracy_score(truth, logits.argmax(1)))
    assert metrics["auc"] == pytest.approx(roc_auc_score(truth, logits[:, 1] - logits[:, 0]), abs=1e-4)
    assert metrics["balanced_accuracy"] > 75  # a network that answers "others" each time has 50
