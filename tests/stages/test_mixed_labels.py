"""Training and distilling on mixed images: the teacher sees them too, and nothing else is mixed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from nasdistill.artifacts import Artifact
from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.data.base import Data
from nasdistill.distill.task import Distillation
from nasdistill.models.base import load_network
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.source import RecipeError
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.training.tasks import Supervised
from tests.stages.parts import context_in, few_digits, network_artifact, watch

LOOP = {"epochs": 2, "batch_size": 32, "full_epochs": False}


@pytest.fixture(scope="module")
def data() -> Data:
    mixers = tuple(AUGMENTATIONS.parse(spec) for spec in ("cutmix", "mixup"))
    return dataclasses.replace(few_digits(), augmentations=mixers)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Artifact:
    return network_artifact(tmp_path_factory.mktemp("teacher") / "given", data, "wrn-10-1")


def test_a_network_learns_from_mixed_labels_and_is_scored_on_whole_ones(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, Supervised)
    stage = build(
        STAGES.get("train"), {"model": "mlp-64", **LOOP, "epochs": 8, "evaluate_every": 8, "optimizer": "adam"}
    )
    outcome = stage.run({}, context_in(tmp_path, data))
    assert all(batch.labels.shape == (len(batch.images), 10) for batch in seen)
    assert outcome.metrics["accuracy"]["last"] > 30  # of 10 classes


def test_what_is_kept_of_teachers_is_of_the_mixed_images(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, Distillation)
    options = {"student": "mlp-16", "teacher": "teacher", "views": 1, "cache_outputs": True, "show": [], **LOOP}
    stage = build(STAGES.get("distill"), {**options, "objectives": ["ban+label"]})
    stage.run({"teacher": teacher}, context_in(tmp_path, data))
    _, network = load_network(teacher.folder)
    assert len(seen) == 6
    for batch in seen:
        assert batch.labels.shape == (len(batch.images), 10)
        with torch.no_grad():
            torch.testing.assert_close(batch.taught["0/logits"], network(batch.images), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["crd", "dkd", "ofa"])
@pytest.mark.parametrize("uses", ["distill", "born-again"])
def test_objectives_that_need_classes_are_refused_where_they_are_listed(name: str, uses: str, tmp_path: Path) -> None:
    networks = {"student": "mlp-16", "teacher": "teacher"} if uses == "distill" else {"model": "mlp-16"}
    text = f"""\
name: mixed
data: {{name: digits, augmentations: [mixup]}}
stages:
  - {{name: teacher, uses: train, with: {{model: mlp-16}}}}
  - {{name: student, uses: {uses}, with: {{{", ".join(f"{k}: {v}" for k, v in networks.items())},
     objectives: [kd,
                  {name}]}}}}
"""
    path = tmp_path / "mixed.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=rf"yaml:7: .*objectives.1: {name} needs one class for each image, .*'mixup'"):
        load_recipe(str(path))
    assert load_recipe(str(path), ["stages.student.augment=false"])
