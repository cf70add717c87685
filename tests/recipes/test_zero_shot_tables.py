"""The recipes of published tables of zero-shot transfer: which networks meet, for how long, and that tiny forms run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.training.settings import TrainingSettings

PAIRS = ["16-2 to 16-1", "40-1 to 16-1", "40-2 to 16-1", "40-1 to 16-2", "40-2 to 16-2", "40-2 to 40-1"]
LENGTHS = {
    "zero-shot-svhn": ("svhn", 50_000),
    "zero-shot-mnist-published": ("mnist", 25_000),
    "zero-shot-fashion-mnist": ("fashion-mnist", 35_000),
    "zero-shot-cifar100": ("cifar100", 80_000),
    "zero-shot-batch-sizes": ("cifar10", 80_000),
}


def stages_of(recipe: str) -> dict[str, Any]:
    return dict(load_recipe(recipe).stages)


@pytest.mark.parametrize("how", ["zero-shot", "kd-at"])
def test_the_six_pairs_meet_in_the_order_of_their_table(how: str) -> None:
    stages = stages_of("zero-shot-pairs")
    met = [stage for name, stage in stages.items() if name.startswith(how)]
    named = [f"{stages[stage.teacher].model} to {stage.student}".replace("wrn-", "") for stage in met]
    assert named == PAIRS
    if how == "zero-shot":
        assert {stage.pseudo_batches for stage in met} == {80_000}
    else:
        assert {stage.images_per_class for stage in met} == {200}


@pytest.mark.parametrize(("recipe", "expected"), LENGTHS.items())
def test_a_large_teacher_and_a_small_student_meet_as_long_as_published(recipe: str, expected: tuple[str, int]) -> None:
    read = load_recipe(recipe)
    stages: dict[str, Any] = dict(read.stages)
    assert (read.data["data"]["name"], stages["student"].pseudo_batches) == expected
    assert (stages["teacher"].model, stages["student"].student) == ("wrn-40-2", "wrn-16-1")


def test_teachers_of_house_numbers_learn_at_the_published_rates() -> None:
    teacher: TrainingSettings = stages_of("zero-shot-svhn")["teacher"]
    rates = [teacher.learning_rate(epoch, 1) for epoch in range(100)]
    assert rates == pytest.approx([0.1] * 30 + [0.02] * 30 + [0.004] * 20 + [0.0008] * 20)


def test_a_tiny_form_of_the_variants_runs(tmp_path: Path) -> None:
    tiny = [
        "data={name: digits, limit: 100}",
        "seeds=[0]",
        "engine.accelerator=cpu",
        "stages.large,middle.model=wrn-10-1",
        "stages.large,middle.epochs=1",
        "stages.plain,growing-steps,equal,chain-first,chain-second.student=wrn-10-1",
        "stages.plain,growing-steps,equal,chain-first,chain-second.pseudo_batches=3",
        "stages.plain,growing-steps,equal,chain-first,chain-second.batch_size=8",
    ]
    recipe = load_recipe("zero-shot-variants", tiny)
    stages: dict[str, Any] = dict(recipe.stages)
    assert [stages["growing-steps"].steps_at(done)[0] for done in range(3)] == [1, 2, 2]
    assert stages["chain-second"].teacher == "chain-first"
    record = run(recipe, tmp_path / "out", "nasdistill run zero-shot-variants")
    assert [row.stage for row in record.rows] == list(stages)


def test_the_generators_steps_grow_by_thirds_of_a_full_run() -> None:
    stage = stages_of("zero-shot-variants")["growing-steps"]
    steps = [stage.steps_at(done)[0] for done in (0, 26_399, 26_400, 53_599, 53_600, 79_999)]
    assert steps == [1, 1, 2, 2, 4, 4]
