"""The recipes of born-again networks on image folders: their settings, and a tiny form on folders of real digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from nasdistill.models.base import load_spec
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.report import tables
from nasdistill.report.records import RunRecord
from nasdistill.report.summaries import by_stage

PARTS = ["ban-0", "ban-1", "ban-2", "ban-3", "ban"]


def write_digits(folder: Path, sizes: dict[int, int]) -> None:
    """So many of each digit as PNG files, each in the folder of its class."""
    digits = load_digits()
    for digit, size in sizes.items():
        (folder / str(digit)).mkdir(parents=True)
        for number, pixels in enumerate(digits.images[digits.target == digit][:size]):
            Image.fromarray((pixels * 255 / 16).round().astype(numpy.uint8)).save(folder / str(digit) / f"{number}.png")


def tried(name: str, folder: Path, *overrides: str) -> RunRecord:
    given = [f"data.root={folder / 'pictures'}", "data.workers=0", "seeds=[0]", "engine.accelerator=cpu", *overrides]
    return run(load_recipe(name, given), folder / "out", f"nasdistill run {name}")


def options(name: str) -> dict[str, dict[str, Any]]:
    return {stage: settings.model_dump() for stage, settings in load_recipe(name).stages.items()}


@pytest.mark.parametrize(
    ("name", "model", "epochs", "patience", "augmentations"),
    [
        ("born-again-alfano", "alfano-wrn-28-1", 100, [8, 12, 12, 12], ["rotation", "shift", "flip"]),
        ("born-again-skin", "alfano-wrn-28-1", 150, [15] * 4, ["rotation", "zoom", "shift"]),
        ("born-again-birds", "alfano-wrn-28-2", 100, [15] * 4, ["rotation", "zoom", "shift"]),
    ],
)
def test_settings_are_those_of_the_report(
    name: str, model: str, epochs: int, patience: list[int], augmentations: list[str]
) -> None:
    recipe, stages = load_recipe(name), options(name)
    assert list(stages)[:5] == PARTS
    assert stages["ban-0"]["model"] == model
    for number, stage in enumerate(PARTS[:-1]):
        given = stages[stage]
        assert (given["epochs"], given["patience"]) == (epochs, patience[number])
        assert (given["batch_size"], given["select"], given["keep"]) == (32, "loss", "selected")
        assert (given["balance"], given["clip"], given["schedule"]["name"]) == ("none", None, "constant")
        assert (given["optimizer"]["name"], given["optimizer"]["lr"]) == ("adam", 0.001)
        if number:
            assert (given["student"], given["teacher"]) == (model, PARTS[number - 1])
            assert [objective["name"] for objective in given["objectives"]] == ["ban"]
    assert stages["ban"]["networks"] == PARTS[:-1]
    drawn = {each.registered_name: each for each in recipe.settings.data.augmentations}
    assert list(drawn) == augmentations
    assert (drawn["rotation"].degrees, drawn["shift"].amount) == (20 if "flip" in drawn else 10, 0.2)


def test_a_network_of_another_kind_teaches_one_of_the_report() -> None:
    stages = options("born-again-mobilenet")
    assert list(stages) == ["teacher", "ban-1", "ban"]
    assert (stages["teacher"]["model"], stages["ban-1"]["student"]) == ("torchvision:mobilenet_v2", "alfano-wrn-16-4")
    assert stages["ban-1"]["teacher"] == "teacher"
    for name in ("teacher", "ban-1"):
        assert (stages[name]["patience"], stages[name]["select"], stages[name]["batch_size"]) == (15, "loss", 32)


def test_a_tiny_form_on_two_classes(tmp_path: Path) -> None:
    write_digits(tmp_path / "pictures", {3: 20, 8: 100})
    tiny = ("data.size=16x16", "stages.ban.model=alfano-wrn-10-1", "stages.ban.epochs=1", "stages.ban.generations=2")
    record = tried("born-again-skin", tmp_path, *tiny)
    assert [row.stage for row in record.rows] == ["ban-0", "ban-1", "ban-2", "ban", "product"]
    for row in record.rows[:-1]:
        assert row.metrics["imbalance"] == 5
        assert {"auc", "balanced_accuracy"} <= row.metrics.keys()
    table = tables.results(by_stage(record.rows))
    shown = [row[table.header.index("AUC")].text for row in table.rows]
    assert [float(text) for text in shown[:-1]] == pytest.approx(
        [row.metrics["auc"] for row in record.rows[:-1]], abs=5e-5
    )
    folder = record.rows[-1].folder
    assert folder is not None
    assert (folder / "network.onnx").is_file()


@pytest.mark.slow
def test_a_tiny_form_of_a_student_of_another_kind(tmp_path: Path) -> None:
    write_digits(tmp_path / "pictures", {1: 8, 7: 12})
    tiny = ("data.size=32x32", "stages.ban.model=alfano-wrn-10-1", "stages.teacher,ban.epochs=1")
    record = tried("born-again-mobilenet", tmp_path, *tiny)
    assert [row.stage for row in record.rows] == ["teacher", "ban-1", "ban"]


def test_a_tiny_form_on_several_classes_at_96x96(tmp_path: Path) -> None:
    write_digits(tmp_path / "pictures", {1: 8, 4: 14, 7: 20})
    tiny = ("stages.ban.model=alfano-wrn-10-1", "stages.ban.epochs=1", "stages.ban.generations=1")
    record = tried("born-again-birds", tmp_path, *tiny)
    assert [row.stage for row in record.rows] == ["ban-0", "ban-1", "ban", "product"]
    folder = record.rows[1].folder
    assert folder is not None
    spec = load_spec(folder)
    assert (spec.shape, spec.labels) == ((3, 96, 96), ("1", "4", "7"))
    assert all("auc" not in row.metrics for row in record.rows)
    assert "balanced accuracy %" in tables.results(by_stage(record.rows)).header
