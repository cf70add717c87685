"""The recipes of other ways without data: published settings, and a tiny form of each that runs."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from nasdistill.recipes.loading import find_recipe, load_recipe
from nasdistill.recipes.runner import run

RECIPES = (
    "zero-shot-dafl",
    "zero-shot-dfad",
    "zero-shot-deep-inversion",
    "zero-shot-fast",
    "zero-shot-nayer",
    "zero-shot-cmi",
)
TINY = [
    "data={name: digits, limit: 200}",
    "engine.accelerator=cpu",
    "stages.teacher.model=wrn-10-1",
    "stages.teacher.epochs=1",
    "stages.student.student=wrn-10-1",
    "stages.student.pseudo_batches=3",
    "stages.student.batch_size=16",
    "stages.student.evaluate_every=3",
]


def settings(recipe: str) -> Any:
    return load_recipe(recipe).stages["student"]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("zero-shot-dafl", {"one-hot": 1, "activation": 0.1, "information-entropy": 5}),
        ("zero-shot-dfad", {"adversarial": 1}),
        ("zero-shot-deep-inversion", {"class-prior": 1, "batch-norm": 10, "total-variation": 2.5e-5}),
        ("zero-shot-fast", {"class-prior": 0.4, "batch-norm": 10, "adversarial": 1.1}),
        ("zero-shot-nayer", {"class-prior": 0.5, "batch-norm": 10, "adversarial": 1.33}),
        ("zero-shot-cmi", {"class-prior": 1, "batch-norm": 1, "adversarial": 0.5, "contrastive": 0.8}),
    ],
)
def test_the_generators_losses_have_their_published_weights(recipe: str, expected: dict[str, float]) -> None:
    assert {loss.registered_name: loss.weight for loss in settings(recipe).generator_losses} == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_images_are_of_the_best_step_where_the_papers_code_keeps_it(recipe: str) -> None:
    expected = "best" if recipe.removeprefix("zero-shot-") in ("fast", "nayer", "cmi") else "last"
    assert settings(recipe).images == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_generators_know_what_is_asked_of_them(recipe: str) -> None:
    assert settings(recipe).caveat() is None


def test_dafls_run_is_2000_epochs_of_120_batches() -> None:
    dafl = settings("zero-shot-dafl")
    assert dafl.pseudo_batches == 2000 * 120
    assert dafl.steps_at(0) == (1, 1)
    rates = {epoch: dafl.rates_at(epoch * 120) for epoch in (0, 799, 800, 1599, 1600, 1999)}
    assert {epoch: rate for epoch, (rate, _) in rates.items()} == dict.fromkeys(rates, 0.02)
    students = {0: 0.1, 799: 0.1, 800: 0.01, 1599: 0.01, 1600: 0.001, 1999: 0.001}
    assert {epoch: rate for epoch, (_, rate) in rates.items()} == pytest.approx(students)


def test_dfads_run_is_500_epochs_of_50_batches() -> None:
    dfad = settings("zero-shot-dfad")
    assert dfad.pseudo_batches == 500 * 50
    assert dfad.steps_at(0) == (1, 5)
    rates = [dfad.rates_at(epoch * 50) for epoch in (0, 99, 100, 199, 200, 499)]
    factors = [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [rate for pair in rates for rate in pair] == pytest.approx(
        [rate * factor for factor in factors for rate in (1e-3, 0.1)]
    )


def test_deep_inversion_optimises_2000_steps_at_one_rate() -> None:
    inversion = settings("zero-shot-deep-inversion")
    assert [inversion.steps_at(done)[0] for done in (0, 999)] == [2000, 2000]
    assert [inversion.rates_at(done)[0] for done in (0, 999)] == [0.05, 0.05]


def test_fasts_run_is_20_epochs_of_the_generator_and_200_of_both() -> None:
    fast = settings("zero-shot-fast")
    assert [fast.steps_at(done) for done in (0, 19, 20, 219)] == [(10, 1), (10, 1), (10, 400), (10, 400)]
    assert fast.rates_at(0) == (0.002, 0.2)
    assert fast.adapt_optimizer.lr == pytest.approx(0.002 * 10)
    assert fast.latent_speed == pytest.approx(0.01 / 0.002)
    assert fast.schedule.factor(1, 220) * 0.2 == pytest.approx(2e-4)
    assert fast.bank == fast.pseudo_batches * fast.batch_size, "nothing is forgotten"


def test_nayers_run_is_20_epochs_of_ten_batches_and_300_of_two() -> None:
    nayer = settings("zero-shot-nayer")
    assert nayer.pseudo_batches == 20 * 10 + 300 * 2
    assert [nayer.steps_at(done) for done in (0, 199, 200, 799)] == [(30, 1), (30, 1), (30, 200), (30, 200)]
    assert nayer.rates_at(0) == (0.004, 0.2)
    assert nayer.bank == nayer.pseudo_batches * nayer.batch_size, "nothing is forgotten"


def test_cmis_run_is_200_epochs_of_a_generator_each() -> None:
    cmi = settings("zero-shot-cmi")
    assert cmi.steps_at(0) == cmi.steps_at(199) == (200, 400)
    rates = [cmi.rates_at(done) for done in (0, 119, 120, 150, 180, 199)]
    assert [rate for rate, _ in rates] == [0.001] * 6
    assert [rate for _, rate in rates] == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.0001, 0.0001])
    assert cmi.bank == cmi.pseudo_batches * cmi.batch_size, "nothing is forgotten"


def test_the_adaptive_form_of_the_docs_is_understood(tmp_path: Path) -> None:
    """Its student's stage in place of the recipe's."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "data-free.md").read_text()
    (stage,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    recipe, _, _ = find_recipe("zero-shot-deep-inversion").read_text().partition("  - name: student")
    (tmp_path / "adaptive.yaml").write_text(recipe + textwrap.indent(stage, "  "))
    losses = settings(str(tmp_path / "adaptive.yaml")).generator_losses
    assert [loss.registered_name for loss in losses] == ["class-prior", "batch-norm", "total-variation", "adversarial"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_tiny_form_runs(recipe: str, tmp_path: Path) -> None:
    few = ["stages.student.generator_steps=2", "stages.student.student_steps=2"]
    record = run(load_recipe(recipe, [*TINY, *few]), tmp_path / "out", f"nasdistill run {recipe}")
    assert [row.stage for row in record.rows] == ["teacher", "student"]
    assert record.rows[1].accuracy is not None
