"""The recipes of KD with attention transfer: the sum that each minimises, to the digit, and the published schedule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from nasdistill.distill.objectives import Outputs
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.registry import registry
from nasdistill.training.batches import Batch

SHAPE, CLASSES, IMAGES = (3, 32, 32), 10, 4
CONSTANTS = {"kd-at-cifar10-old": 2.88, "kd-at-cifar10-corrected": 14.4}
SIZES = {"groups.0": 32, "groups.1": 16, "groups.2": 8}


def outputs(seed: int, width: int) -> Outputs:
    """Fixed logits and features, of the shapes that a WRN's three groups put out."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    features = {name: normal(IMAGES, width * 512 // size, size, size) for name, size in SIZES.items()}
    return Outputs(3 * normal(IMAGES, CLASSES), features)


def attention(activation: torch.Tensor) -> np.ndarray:
    flat = np.square(activation.numpy()).mean(1).reshape(IMAGES, -1)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("name", "stage_name", "constant"),
    [
        *((name, "student", constant) for name, constant in CONSTANTS.items()),
        # 0.1*CE + 2*0.9*T^2*KL_mean + 1000*AT: T = 4, and the mean over 10 classes too, make 2.88 of the divergence.
        ("few-shot", "kd-at", 1.8 * 16 / CLASSES),
        ("zero-shot-then-few-shot", "tuned", 1.8 * 16 / CLASSES),
    ],
)
def test_the_sum_is_the_published_one(name: str, stage_name: str, constant: float) -> None:
    """0.1*CE + 2.88*KL + 1000*AT in the older form, 14.4*KL in the corrected one (facts/distillation.md)."""
    stage = load_recipe(name).stages[stage_name]
    models = registry("models")
    pupil, master = (models.parse(wrn).build(SHAPE, CLASSES) for wrn in ("wrn-16-1", "wrn-40-2"))
    student, teacher = outputs(0, 1), outputs(1, 2)
    labels = torch.tensor([3, 0, 9, 3])
    batch = Batch(torch.empty(0), labels, torch.arange(IMAGES))
    loss = 0.0
    for objective in with_label_term(stage.objectives):  # type: ignore[attr-defined]
        term = objective.bind(pupil, master, SHAPE)
        assert set(term.student_points) <= set(SIZES)
        assert objective.warmup == 0
        loss += objective.weight * term.loss(student, teacher, batch).item()

    cross_entropy = -log_softmax(student.logits.numpy(), 1)[np.arange(IMAGES), labels].mean()
    softened = (softmax(each.logits.numpy() / 4, 1) for each in (teacher, student))
    divergence = rel_entr(*softened).sum(1).mean()
    distances = (attention(student.features[group]) - attention(teacher.features[group]) for group in SIZES)
    transfer = sum(np.square(distance).mean() for distance in distances)
    assert loss == pytest.approx(0.1 * cross_entropy + constant * divergence + 1000 * transfer, rel=1e-9)


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("stage", ["teacher", "alone", "student"])
def test_the_schedule_is_the_published_one(name: str, stage: str) -> None:
    settings = load_recipe(name).stages[stage]
    rates = [settings.learning_rate(epoch, 1) for epoch in range(200)]  # type: ignore[attr-defined]
    assert rates == pytest.approx([0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40)
    given = settings.model_dump()
    assert (given["epochs"], given["batch_size"], given["clip"], given["ema"]) == (200, 128, None, None)
    assert given["optimizer"] == {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
    }


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_images_are_cropped_and_mirrored(name: str) -> None:
    data = load_recipe(name).settings.data.spec()
    assert data["name"] == "cifar10"
    assert [augmentation["name"] for augmentation in data["augmentations"]] == ["crop", "flip"]
    assert data["augmentations"][0]["padding"] == 4


def test_a_tiny_form_runs(tmp_path: Path) -> None:
    """The other one differs in nothing but its sum."""
    overrides = [f"stages.{stage}.epochs=1" for stage in ("teacher", "alone", "student")]
    tiny = ["data={name: digits, limit: 200}", "stages.teacher.model=wrn-10-1", "stages.alone.model=wrn-10-1"]
    recipe = load_recipe(
        "kd-at-cifar10-old", [*overrides, *tiny, "stages.student.student=wrn-10-1", "engine.accelerator=cpu"]
    )
    record = run(recipe, tmp_path / "out", "nasdistill run kd-at-cifar10-old")
    assert [row.stage for row in record.rows] == ["teacher", "alone", "student"]


def test_the_recipes_differ_in_nothing_but_their_sum() -> None:
    older, corrected = (
        {stage: settings.model_dump() for stage, settings in load_recipe(name).stages.items()} for name in CONSTANTS
    )
    for stages in (older, corrected):
        del stages["student"]["objectives"][1]
    assert older == corrected
