"""The validation score of an ensemble: what it is, and where it would not be honest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from nasdistill.artifacts import open_artifact
from nasdistill.data.preparation import load
from nasdistill.models.base import load_network
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.registry import registry
from nasdistill.report import page

DATA: dict[str, Any] = {"name": "digits", "limit": 200}
RECIPE = """\
name: together
seed: 5
data: {name: digits, limit: 200}
engine: {accelerator: cpu, precision: "32"}
stages:
  - {name: first, uses: train, with: {model: mlp-8, epochs: 2, batch_size: 64}}
  - {name: second, uses: train, with: {model: mlp-16, epochs: 2, batch_size: 64}}
  - {name: both, uses: ensemble, with: {networks: [first, second]}}
"""


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "write_report", lambda *_: None)


def ran(folder: Path, *overrides: str) -> dict[str, Path]:
    """The artifacts' folders by stage."""
    folder.mkdir(exist_ok=True)
    file = folder / "together.yaml"
    file.write_text(RECIPE)
    record = run(load_recipe(str(file), overrides), folder / "out", "nasdistill run together.yaml")
    return {row.stage: row.folder for row in record.rows if row.folder is not None}


def validation_of(folder: Path) -> dict[str, float] | None:
    told: dict[str, float] | None = open_artifact(folder).manifest.metrics.get("validation")
    return told


@pytest.mark.parametrize(
    ("select", "score"),
    [("accuracy", accuracy_score), ("balanced-accuracy", balanced_accuracy_score), ("loss", accuracy_score)],
)
def test_it_is_that_of_the_network_that_is_written(select: str, score: Any, tmp_path: Path) -> None:
    selects = (f"stages.first.select={select}", f"stages.second.select={select}")
    folder = ran(tmp_path, *selects)["both"]
    data = load(registry("datasets").parse(DATA), 5)
    spec, network = load_network(folder)
    assert spec.normalisation is not None
    images = (data.validation.images / 255 - spec.normalisation.mean[0]) / spec.normalisation.std[0]
    with torch.no_grad():
        said = network(images).double().softmax(1).numpy()
    truth = data.validation.labels.numpy()
    told = validation_of(folder)
    assert told is not None
    assert told["score"] == pytest.approx(100 * score(truth, said.argmax(1)))
    assert told["loss"] == pytest.approx(log_loss(truth, said, labels=range(10)), rel=1e-5)


def test_it_is_left_out_where_a_member_may_have_been_trained_on_these_images(tmp_path: Path) -> None:
    def joined(name: str, *overrides: str) -> dict[str, float] | None:
        other = ran(tmp_path / f"{name} there", *overrides)["first"]
        return validation_of(ran(tmp_path / f"{name} here", f"stages.both.networks=[{other}, second]")["both"])

    assert joined("same") is not None
    assert joined("another seed", "seed=6") is None
    assert joined("other images", "data.limit=190") is None
    assert joined("another measure", "stages.first.select=balanced-accuracy") is None
