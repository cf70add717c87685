"""Stages that stand for several, and stages that are left out because of what earlier ones came to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from nasdistill.artifacts import open_artifact
from nasdistill.errors import SpecError
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import plan, run
from nasdistill.recipes.source import RecipeError
from nasdistill.report.records import RunRecord
from nasdistill.report.results import load_run
from nasdistill.stages import STAGES, Context, Inputs, Outcome, Reference, Stage
from nasdistill.storage import write_json
from tests.recipes.toy import Walk


@STAGES.register("toy-further")
class Further(Stage):
    """Goes a step beyond what it reads, unless that is far enough."""

    makes: ClassVar[str] = "architecture"
    start: Annotated[str, Reference("architecture")] = Field(description="where to go on from")
    rival: Annotated[str | None, Reference("architecture", condition=True)] = Field(
        None, description="left out unless the start is longer than this one"
    )

    def reason_to_leave_out(self, inputs: Inputs) -> str | None:
        if self.rival is None:
            return None
        if "length" not in inputs["rival"].manifest.metrics:
            raise SpecError("has no length", ("rival",))
        far = inputs["start"].manifest.metrics["length"] > inputs["rival"].manifest.metrics["length"]
        return None if far else f"{self.start!r} is no longer than {self.rival!r}"

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        write_json(context.folder / "from.json", inputs["start"].content)
        return Outcome({"length": inputs["start"].manifest.metrics["length"] + 1})


@STAGES.register("toy-gather")
class Gather(Stage):
    """How many of those that it reads there are."""

    makes: ClassVar[str] = "metrics"
    walks: Annotated[list[str], Reference("architecture", if_made=True)] = Field(description="walks")

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        write_json(context.folder / "walks.json", sorted(inputs))
        return Outcome({"walks": len(inputs)})


@STAGES.register("toy-journey")
class Journey(Stage):
    """A walk, and several further ones."""

    makes: ClassVar[str] = "metrics"
    steps: int = Field(3, gt=0, description="of the first walk")
    legs: int = Field(2, description="how many further ones")
    rival: str | None = Field(None, description="what each leg after the first must beat")

    def parts(self, name: str) -> Mapping[str, Stage]:
        if self.legs > 9:
            raise SpecError("nobody walks that far", ("legs",))
        names = [f"{name}-{leg}" for leg in range(self.legs + 1)]
        parts: dict[str, Stage] = {names[0]: Walk(steps=self.steps)}
        for before, leg in pairwise(names):
            parts[leg] = Further(start=before, rival=self.rival if before != names[0] else None)
        return {**parts, name: Gather(walks=names[1:])}


RECIPE = """\
name: toy
data: toy-data
stages:
  - name: short
    uses: toy-walk
    with: {steps: 4}
  - name: trip
    uses: toy-journey
    with: {steps: 3}
  - name: after
    uses: toy-link
    with: {walk: trip-1}
"""


def ran(out: Path, *overrides: str) -> RunRecord:
    recipe = out.parent / "toy.yaml"
    recipe.write_text(RECIPE)
    return run(load_recipe(str(recipe), overrides), out, "nasdistill run toy.yaml")


def stages_of(record: RunRecord) -> list[str]:
    return [row.stage for row in record.rows]


def test_a_stage_that_stands_for_several_runs_as_these(tmp_path: Path) -> None:
    record = ran(tmp_path / "out")
    assert stages_of(record) == ["short", "trip-0", "trip-1", "trip-2", "trip", "after"]
    assert [row.uses for row in record.rows][1:5] == ["toy-walk", "toy-further", "toy-further", "toy-gather"]
    assert record.rows[4].metrics == {"walks": 2}
    names = {path.name for path in (tmp_path / "out" / "stages").iterdir()}
    assert names == set(stages_of(record))


def test_more_parts_repeat_none_that_is_done(tmp_path: Path) -> None:
    ran(tmp_path / "out")
    record = ran(tmp_path / "out", "stages.trip.legs=4")
    assert [row.stage for row in record.rows if not row.cached] == ["trip-3", "trip-4", "trip"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ("stages.trip.steps=0", "override 'stages.trip.steps=0'"),
        ("stages.trip.legs=10", "nobody walks that far"),
        ("stages.after.walk=trip-3", "did you mean 'trip-2'?"),
        ("stages.after.walk=trip", "'trip' is a toy-gather stage and makes metrics"),
    ],
)
def test_what_is_wrong_with_a_part_is_told_where_it_was_written(tmp_path: Path, changed: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        ran(tmp_path / "out", changed)
    assert sentence in str(error.value)


def test_a_part_may_not_take_anothers_name(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE.replace("name: short", "name: trip-2"))
    with pytest.raises(
        RecipeError, match=r"toy.yaml:\d+.*'trip-2' stands here twice, for one of the stages that 'trip'"
    ):
        load_recipe(str(recipe))


def test_what_is_left_out_takes_along_what_needs_it_and_no_more(tmp_path: Path) -> None:
    """trip-1 is 4 long, no longer than `short`: trip-2 is left out, trip-3 with it, and `trip` makes do with trip-1."""
    record = ran(tmp_path / "out", "stages.trip.rival=short", "stages.trip.legs=3")
    assert stages_of(record) == ["short", "trip-0", "trip-1", "trip", "after"]
    assert record.rows[3].metrics == {"walks": 1}
    assert [(one.stage, one.seed, one.reason) for one in record.left_out] == [
        ("trip-2", 0, "'trip-1' is no longer than 'short'"),
        ("trip-3", 0, "'trip-2', which it reads, was left out"),
    ]
    assert load_run(tmp_path / "out").left_out == record.left_out
    assert "trip-2, seed 0: &#39;trip-1&#39; is no longer than" in (tmp_path / "out" / "report.html").read_text()


def test_the_same_run_again_does_nothing(tmp_path: Path) -> None:
    ran(tmp_path / "out", "stages.trip.rival=short", "stages.trip.legs=3")
    record = ran(tmp_path / "out", "stages.trip.rival=short", "stages.trip.legs=3")
    assert all(row.cached for row in record.rows)


def test_a_condition_decides_whether_and_never_what(tmp_path: Path) -> None:
    """A stage that a condition lets through is the very one that ran without it."""
    ran(tmp_path / "out", "stages.trip.steps=7")
    record = ran(tmp_path / "out", "stages.trip.steps=7", "stages.trip.rival=short")
    assert [row.stage for row in record.rows if not row.cached] == []


def test_the_plan_leaves_out_what_is_known_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    out = tmp_path / "out"
    ran(out)
    changed = ("stages.trip.rival=short", "stages.trip.legs=3")
    recipe = load_recipe(str(tmp_path / "toy.yaml"), changed)
    assert [(stage.name, stage.cached) for stage in plan(recipe, out)] == [
        ("short", True),
        ("trip-0", True),
        ("trip-1", True),
        ("trip", False),
        ("after", True),
    ]
    (told,) = [message for message in caplog.messages if message.startswith("left out: ")]
    assert re.fullmatch(r"left out: trip-2 \(.+\), trip-3 \('trip-2', which it reads, was left out\)", told)
    # Before anything has run nobody knows.
    caplog.clear()
    assert [stage.name for stage in plan(recipe, tmp_path / "new")] == [
        *("short", "trip-0", "trip-1", "trip-2", "trip-3", "trip", "after")
    ]
    assert "left out" not in caplog.text


def test_a_condition_that_cannot_be_told_is_one_sentence(tmp_path: Path) -> None:
    """`after` is a toy-link, which tells no length."""
    with pytest.raises(RecipeError, match="has no length"):
        ran(tmp_path / "out", "stages.trip.rival=after")


def test_every_artifact_is_the_parts_own(tmp_path: Path) -> None:
    record = ran(tmp_path / "out")
    for row in record.rows:
        assert row.folder is not None
        assert open_artifact(row.folder).manifest.stage == row.stage
