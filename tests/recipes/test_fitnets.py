"""The recipe of FitNets: two real stages beside KD and labels alone, on one schedule."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run

STAGES = ("teacher", "alone", "kd", "hints", "fitnet")


def test_only_the_hints_set_the_two_students_apart() -> None:
    stages = {name: settings.model_dump() for name, settings in load_recipe("fitnets").stages.items()}
    assert tuple(stages) == STAGES
    assert (stages["kd"].pop("student"), stages["fitnet"].pop("student")) == ("wrn-16-1", "hints")
    assert stages["kd"] == stages["fitnet"]
    (kd,) = stages["kd"]["objectives"]
    assert {name: kd[name] for name in ("name", "weight", "temperature")} == {
        "name": "kd",
        "weight": 0.9,
        "temperature": 4,
    }


@pytest.mark.parametrize("stage", ["teacher", "alone", "kd", "fitnet"])
def test_the_schedule_is_the_published_one(stage: str) -> None:
    settings = load_recipe("fitnets").stages[stage]
    rates = [settings.learning_rate(epoch, 1) for epoch in range(200)]  # type: ignore[attr-defined]
    assert rates == pytest.approx([0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40)


def test_a_tiny_form_runs(tmp_path: Path) -> None:
    epochs = [f"stages.{stage}.epochs=1" for stage in STAGES]
    small = ["stages.teacher.model=wrn-10-2", "stages.alone.model=wrn-10-1", "stages.kd.student=wrn-10-1"]
    given = ["data={name: digits, limit: 200}", "engine.accelerator=cpu", "stages.hints.student=wrn-10-1"]
    record = run(load_recipe("fitnets", [*epochs, *small, *given]), tmp_path / "out", "nasdistill run fitnets")
    assert [row.stage for row in record.rows] == list(STAGES)
    assert [row.stage for row in record.rows if row.accuracy is None] == ["hints"]


def test_the_papers_own_networks_have_its_settings() -> None:
    recipe = load_recipe("fitnets-maxout")
    stages = {name: settings.model_dump() for name, settings in recipe.stages.items()}
    assert tuple(stages) == STAGES
    assert recipe.settings.data.validation == 0.2
    assert stages["kd"]["student"] == stages["hints"]["student"] == stages["alone"]["model"]
    assert stages["kd"] | {"student": "hints"} == stages["fitnet"]
    for name in STAGES[1:]:
        given = stages[name]
        assert (given["epochs"], given["batch_size"], given["patience"]) == (500, 128, 100)
        assert given["optimizer"]["name"] == "rmsprop"


@pytest.mark.slow
def test_a_tiny_form_of_it_runs(tmp_path: Path) -> None:
    teacher = (
        "{name: maxout, units: 9, layers: [{channels: 8, pool: 2}, {channels: 8, pool: 2}, {channels: 4, pool: 2}]}"
    )
    students = ["stages.alone.model=fitnet-5-layers-30m", "stages.kd,hints.student=fitnet-5-layers-30m"]
    given = [f"stages.teacher.model={teacher}", *students, "data={name: digits, limit: 60}", "engine.accelerator=cpu"]
    epochs = [f"stages.{stage}.epochs=1" for stage in STAGES]
    record = run(load_recipe("fitnets-maxout", [*epochs, *given]), tmp_path / "out", "nasdistill run fitnets-maxout")
    assert [row.stage for row in record.rows] == list(STAGES)
