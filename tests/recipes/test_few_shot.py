"""The few-shot recipes: the published baseline, both students at the same M, and a tiny form with the sweep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from nasdistill import resources
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.recipes.sweep import load_sweep
from nasdistill.report.records import RunRecord

BASELINES = {"few-shot": [10, 25, 50, 75, 100], "fashion-mnist-few-shot": [10, 25, 50]}
M = "stages.alone,kd-at.images_per_class"


def sweep_of_header(name: str) -> str:
    """What stands after `--sweep` on the Command line of a recipe's header."""
    header = (resources.recipes() / f"{name}.yaml").read_text().partition("\nname:")[0]
    words = shlex.split(header.partition("Command:")[2].partition("Expected:")[0].replace("\\\n#", ""))
    assert words[:3] == ["nasdistill", "run", name]
    return words[words.index("--sweep") + 1]


@pytest.mark.parametrize("name", BASELINES)
def test_both_students_of_a_point_see_the_same_images(name: str) -> None:
    sweep = load_sweep(name, swept=[sweep_of_header(name)])
    found = [{stage: options(point.recipe, stage) for stage in ("alone", "kd-at")} for point in sweep.points]
    assert [{stage["images_per_class"] for stage in point.values()} for point in found] == [
        {m} for m in BASELINES[name]
    ]
    for point in found:
        assert all(stage["full_epochs"] and stage["keep"] == "last" for stage in point.values())


@pytest.mark.parametrize("name", BASELINES)
def test_the_teacher_alone_sets_the_students_apart(name: str) -> None:
    recipe = load_recipe(name)
    alone, taught = options(recipe, "alone"), options(recipe, "kd-at")
    assert alone.pop("model") == taught["student"]
    assert {**taught, **alone} == {**taught, "fresh": False, "show_points": None, "grow": None}
    assert options(recipe, "teacher")["images_per_class"] is None


def test_the_small_form_has_the_weights_of_the_published_one() -> None:
    """But for the attention, a mean over space: 784 places weigh 784/1024 of 1000, which is about 750."""
    published, small = (options(load_recipe(name), "kd-at")["objectives"] for name in BASELINES)
    assert (published[2].pop("beta"), small[2].pop("beta")) == (1000, 750)
    assert published == small


@pytest.mark.parametrize(
    ("name", "stage"),
    [*(("few-shot", stage) for stage in ("teacher", "alone", "kd-at")), ("zero-shot-then-few-shot", "teacher")],
)
def test_the_schedule_is_that_of_published_teachers(name: str, stage: str) -> None:
    settings = load_recipe(name).stages[stage]
    rates = [settings.learning_rate(epoch, 1) for epoch in range(200)]  # type: ignore[attr-defined]
    assert rates == pytest.approx([0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40)
    given = settings.model_dump()
    assert (given["epochs"], given["batch_size"], given["clip"]) == (200, 128, None)


def test_a_tiny_form_runs(tmp_path: Path) -> None:
    tiny = ["stages.teacher.model=wrn-10-2", "stages.alone.model=wrn-10-1", "stages.kd-at.student=wrn-10-1"]
    tiny += ["stages.teacher,alone,kd-at.epochs=1"]
    record = tried("few-shot", tmp_path / "out", tiny, f"{M}=2,4")
    assert [(row.stage, row.point) for row in record.rows] == [
        ("teacher", {}),
        *(("alone", {M: m}) for m in (2, 4)),
        *(("kd-at", {M: m}) for m in (2, 4)),
    ]


def test_a_zero_shot_student_is_tuned_for_each_m(tmp_path: Path) -> None:
    key = "stages.tuned.images_per_class"
    assert sweep_of_header("zero-shot-then-few-shot") == f"{key}=10,25,50,75,100"
    recipe = load_recipe("zero-shot-then-few-shot")
    assert options(recipe, "tuned")["student"] == "zero-shot"
    assert options(recipe, "zero-shot")["pseudo_batches"] == 80_000
    tiny = ["stages.teacher.model=wrn-10-2", "stages.zero-shot.student=wrn-10-1", "stages.teacher,tuned.epochs=1"]
    tiny += ["stages.zero-shot.pseudo_batches=2", "stages.zero-shot.batch_size=16"]
    record = tried("zero-shot-then-few-shot", tmp_path / "out", tiny, f"{key}=2,4")
    assert [(row.stage, row.point) for row in record.rows] == [
        *((stage, {}) for stage in ("teacher", "zero-shot")),
        *(("tuned", {key: m}) for m in (2, 4)),
    ]


def options(recipe: Any, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = recipe.stages[stage].model_dump()
    return found


def tried(name: str, out: Path, overrides: list[str], swept: str) -> RunRecord:
    given = [*overrides, "data={name: digits, limit: 200}", "seeds=[0]", "engine.accelerator=cpu"]
    return run(load_sweep(name, given, swept=[swept]), out, f"nasdistill run {name}")
