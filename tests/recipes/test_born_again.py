"""The born-again recipes: who meets whom, what is paired, published schedules, and that tiny forms run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nasdistill.models.base import load_spec
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.report.records import RunRecord


def options(name: str, stage: str) -> dict[str, Any]:
    return load_recipe(name).stages[stage].model_dump()


def tried(name: str, out: Path, *overrides: str) -> RunRecord:
    given = [*overrides, "data={name: digits, limit: 200}", "seeds=[0]", "engine.accelerator=cpu"]
    return run(load_recipe(name, given), out, f"nasdistill run {name}")


@pytest.mark.parametrize(
    ("name", "model", "lr_after"),
    [
        ("born-again-cifar10", "wrn-28-1", {0: 0.1, 59: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}),
        ("born-again-densenet", "densenet-112-33", {0: 0.1, 149: 0.1, 150: 0.01, 225: 0.001}),
    ],
)
def test_the_published_networks_at_their_schedules(name: str, model: str, lr_after: dict[int, float]) -> None:
    stages = load_recipe(name).stages
    assert list(stages) == ["ban-0", "ban-1", "ban-2", "ban-3", "ban"]
    assert {stages["ban-0"].model, *(stages[f"ban-{n}"].student for n in (1, 2, 3))} == {model}  # type: ignore[attr-defined]
    for number in range(4):
        settings: Any = stages[f"ban-{number}"]
        assert {epoch: settings.learning_rate(epoch, 1) for epoch in lr_after} == pytest.approx(lr_after)
        assert settings.clip is None


def test_controls_differ_from_the_first_generation_in_what_they_learn_alone() -> None:
    """And the second network on labels from the teacher in its draw alone, which is that of the first generation."""
    name = "born-again-two-cores"
    first = options(name, "ban-1")
    for control in ("cwtm", "dkpp"):
        found = options(name, control)
        assert [objective["name"] for objective in found.pop("objectives")] == [control]
        # fresh weights of a model that comes with none: the same draw
        assert {**found, "fresh": True} == {option: first[option] for option in found}
    teacher, again = options(name, "ban-0"), options(name, "new-draw")
    assert (teacher.pop("replicate"), again.pop("replicate")) == (0, first["replicate"])
    assert (teacher.pop("fresh"), again.pop("fresh")) == (True, False)
    assert teacher == again


def test_the_small_form_of_the_table_runs(tmp_path: Path) -> None:
    name = "born-again-two-cores"
    tiny = ("stages.ban.model=wrn-10-1", "stages.new-draw.model=wrn-10-1", "stages.cwtm,dkpp.student=wrn-10-1")
    record = tried(name, tmp_path / "out", *tiny, "stages.ban,new-draw,cwtm,dkpp.epochs=1")
    assert [row.stage for row in record.rows] == [
        *("ban-0", "ban-1", "ban-2", "ban-3", "ban", "new-draw", "cwtm", "dkpp")
    ]
    assert len({row.content for row in record.rows}) == 8


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("born-again-cifar10", "wrn-10-1"),
        ("born-again-densenet", "densenet-10-4"),
        pytest.param("born-again-alfano", "alfano-wrn-10-1", marks=pytest.mark.slow),
    ],
)
def test_their_small_forms_run(name: str, model: str, tmp_path: Path) -> None:
    record = tried(
        name, tmp_path / "out", "stages.ban.epochs=1", f"stages.ban.model={model}", "stages.ban.generations=2"
    )
    assert [row.stage for row in record.rows] == ["ban-0", "ban-1", "ban-2", "ban"]


def test_generations_become_one_network_again(tmp_path: Path) -> None:
    alone, again = options("born-again-to-one", "alone"), options("born-again-to-one", "again")
    assert {alone.pop("model"), again["student"]} == {"wrn-16-1"}
    assert (alone.pop("show_points"), alone.pop("grow")) == (None, None)
    assert alone.items() <= again.items()
    tiny = ("stages.ban,alone.model=wrn-10-1", "stages.again.student=wrn-10-1", "stages.ban,alone,again.epochs=1")
    record = tried("born-again-to-one", tmp_path / "out", *tiny)
    rows = {row.stage: row for row in record.rows}
    assert rows["again"].inputs == {"teacher": rows["ban"].content}
    folder = rows["again"].folder
    assert folder is not None
    assert load_spec(folder).model.registered_name == "wrn"
    assert rows["again"].parameters == rows["ban-1"].parameters == rows["ban"].parameters / 3  # type: ignore[operator]
    exported = rows["onnx"].folder
    assert exported is not None
    assert (exported / "network.onnx").is_file()
