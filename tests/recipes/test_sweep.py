"""Sweeps: which points there are, what they share, that no kill changes a result (reliability R1)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from nasdistill.artifacts import open_artifact
from nasdistill.errors import UserError
from nasdistill.recipes.runner import plan, run
from nasdistill.recipes.source import RecipeError
from nasdistill.recipes.sweep import Sweep, grid_of, load_sweep, reached
from nasdistill.report.records import RunRecord
from tests.children import POINTS, InAChild, killed_at
from tests.recipes.test_runner import contents
from tests.recipes.toy import RECIPE

STEPS, SCALE = "stages.walk.steps", "stages.sum.scale"
GRID = (f"{STEPS}=2,3", f"{SCALE}=1,10")


def loaded(folder: Path, *swept: str, overrides: tuple[str, ...] = ()) -> Sweep:
    recipe = folder / "toy.yaml"
    if not recipe.exists():
        recipe.write_text(RECIPE)
    return load_sweep(str(recipe), overrides, (), swept)


def swept(out: Path, *grid: str, overrides: tuple[str, ...] = ()) -> RunRecord:
    return run(loaded(out.parent, *grid, overrides=overrides), out, "nasdistill run toy.yaml")


def ran(record: RunRecord) -> list[tuple[str, dict[str, object]]]:
    return [(row.stage, dict(row.point)) for row in record.rows if not row.cached]


# -- the grid -------------------------------------------------------------------------------------------------------


def test_values_are_split_as_yaml_splits_them() -> None:
    assert grid_of(["a=1,2.5,x", "b=[kd],[kd, attention]", "c={name: kd, weight: 1e-1},null"]) == {
        "a": [1, 2.5, "x"],
        "b": [["kd"], ["kd", "attention"]],
        "c": [{"name": "kd", "weight": 0.1}, None],
    }


def test_two_keys_make_every_combination(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, *GRID)
    found = [(point.recipe.stages["walk"].steps, point.recipe.stages["sum"].scale) for point in sweep.points]  # type: ignore[attr-defined]
    assert found == [(2, 1), (2, 10), (3, 1), (3, 10)]


TWO_WALKS = RECIPE.replace("  - name: sum\n", "  - {name: stroll, uses: toy-walk}\n  - name: sum\n")


def test_stages_in_one_key_share_each_value(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(TWO_WALKS)
    sweep = loaded(tmp_path, "stages.walk,stroll.steps=2,3")
    assert [[point.recipe.stages[stage].steps for stage in ("walk", "stroll")] for point in sweep.points] == [  # type: ignore[attr-defined]
        [2, 2],
        [3, 3],
    ]
    record = swept(tmp_path / "out", "stages.walk,stroll.steps=2,3")
    assert {row.stage: len([same for same in record.rows if same.stage == row.stage]) for row in record.rows} == {
        "walk": 2,
        "stroll": 2,
        "sum": 2,
    }
    assert (tmp_path / "out" / "stages" / "stroll-walk,stroll.steps=3").is_dir()


def test_a_value_that_is_swept_and_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(TWO_WALKS)
    with pytest.raises(UserError, match="is swept as well; leave one of them out"):
        loaded(tmp_path, "stages.walk,stroll.steps=2,3", overrides=("stages.stroll.steps=4",))


def test_a_longer_key_lands_inside_a_swept_mapping_at_its_own_point_only(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, "data={name: toy-data, salt: a}", "data.salt=b,c")
    assert [point.recipe.settings.data.salt for point in sweep.points] == ["b", "c"]
    with pytest.raises(UserError, match=r"--sweep data\.salt=.*: it can be swept only after data, which replaces it"):
        loaded(tmp_path, "data.salt=b,c", "data={name: toy-data, salt: a}")
    with pytest.raises(UserError, match=r"override 'data\.salt=d': data, around it, is swept as well"):
        loaded(tmp_path, "data={name: toy-data, salt: a}", overrides=("data.salt=d",))


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        ((STEPS,), r"write it as key\.path=value,value"),
        (("=1,2",), r"write it as key\.path=value,value"),
        ((f"{STEPS}=",), r"there are no values"),
        ((f"{STEPS}=1,2,1",), r"the value 1 stands here twice"),
        ((f"{STEPS}=1,1.0",), r"stands here twice"),
        ((f"{STEPS}=1,2", f"{STEPS}=3"), r"the key 'stages\.walk\.steps' is swept twice"),
        (("stages.walk,walk.steps=1,2",), r"the key 'stages\.walk\.steps' is swept twice"),
        ((f"{STEPS}=1,2", "stages.sum,walk.steps=3"), r"the key 'stages\.walk\.steps' is swept twice"),
        (("seeds=0,1",), r"with --seeds 0,1,2 every point runs with each"),
        ((f"{STEPS}=1,]",), r"not valid YAML"),
        ((f"{STEPS}=[1, 2]",), r"got \[1, 2\]; did you mean .* leave out the brackets: stages\.walk\.steps=1,2$"),
        ((f"{STEPS}=1,none",), r"^--sweep stages\.walk\.steps=none: stages\.walk\.steps: "),
        (("stages.walk.stebs=1,2",), r"^--sweep stages\.walk\.stebs=1: stages\.walk\.stebs: .*steps"),
        (("stages.wal.steps=1,2",), r"^--sweep stages\.wal\.steps=1: .*did you mean 'walk'"),
        (("stages.sum.walk=walk,sum",), r"^--sweep stages\.sum\.walk=sum: stages\.sum\.walk: "),
    ],
)
def test_a_wrong_grid_is_one_sentence(grid: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem) as refused:
        loaded(tmp_path, *grid)
    assert "\n" not in str(refused.value)


def test_an_engine_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--sweep engine\.accelerator=cuda"):
        swept(tmp_path / "out", "engine.accelerator=cpu,cuda")
    assert not list((tmp_path / "out").glob("artifacts/*"))


# -- what is shared -------------------------------------------------------------------------------------------------


def test_a_key_is_left_out_where_it_changes_nothing() -> None:
    points = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2)]
    made = [("first", 0, point, 0) for point in points]
    made += [("second", 0, point, point["a"]) for point in points]
    made += [("third", 0, point, (point["a"], point["b"])) for point in points]
    assert [(made[at][0], left) for at, left in reached(made)] == [
        ("first", {}),
        *[("second", {"a": a}) for a in (1, 2)],
        *[("third", point) for point in points],
    ]


def test_a_key_that_matters_with_one_seed_stays_with_all() -> None:
    made = [("grown", seed, {"a": a}, a if seed == 1 else "same") for a in (1, 2) for seed in (0, 1)]
    assert [(made[at][1], left) for at, left in reached(made)] == [(seed, {"a": a}) for seed in (0, 1) for a in (1, 2)]


def test_stages_that_a_value_does_not_reach_run_once(tmp_path: Path) -> None:
    record = swept(tmp_path / "out", f"{SCALE}=1,10")
    assert ran(record) == [("walk", {}), ("sum", {SCALE: 1}), ("sum", {SCALE: 10})]
    assert len(contents(tmp_path / "out")) == 3
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["stage"], row["point"]) for row in rows] == ran(record)


def test_every_point_runs_with_every_seed(tmp_path: Path) -> None:
    record = swept(tmp_path / "out", *GRID, overrides=("seed=null", "seeds=[0, 1]"))
    assert [row.seed for row in record.rows] == [0] * 6 + [1] * 6
    assert len(contents(tmp_path / "out")) == 12
    assert (
        open_artifact(tmp_path / "out" / "stages" / "sum-walk.steps=3,sum.scale=10-seed-1").manifest.config["scale"]
        == 10
    )


def test_links_are_named_by_their_points(tmp_path: Path) -> None:
    swept(tmp_path / "out", *GRID)
    links = sorted(path.name for path in (tmp_path / "out" / "stages").iterdir())
    assert links == [
        *(f"sum-walk.steps={steps},sum.scale={scale}" for steps in (2, 3) for scale in (1, 10)),
        "walk-walk.steps=2",
        "walk-walk.steps=3",
    ]
    for steps in (2, 3):
        assert open_artifact(tmp_path / "out" / "stages" / f"walk-walk.steps={steps}").manifest.config == {
            "steps": steps
        }


def test_a_bigger_grid_in_the_same_folder_runs_only_what_is_new(tmp_path: Path) -> None:
    swept(tmp_path / "out", *GRID)
    assert ran(swept(tmp_path / "out", *GRID)) == []
    bigger = swept(tmp_path / "out", GRID[0], f"{SCALE}=1,5,10")
    assert ran(bigger) == [("sum", {STEPS: 2, SCALE: 5}), ("sum", {STEPS: 3, SCALE: 5})]


def test_data_and_engine_of_a_point_are_its_own(tmp_path: Path) -> None:
    record = swept(tmp_path / "out", "data.salt=a,b", "engine.channels_last=true,false")
    walks = [row for row in record.rows if row.stage == "walk"]
    told = [open_artifact(row.folder).manifest.provenance for row in walks if row.folder is not None]
    assert [(one["data"]["fingerprint"], one["engine"]["channels_last"]) for one in told] == [
        ("bytes a", True), ("bytes a", False), ("bytes b", True), ("bytes b", False),
    ]  # fmt: skip


def test_the_plan_shows_what_points_share_once(tmp_path: Path) -> None:
    planned = [(stage.name, stage.point, stage.cached) for stage in plan(loaded(tmp_path, *GRID), tmp_path / "out")]
    walks = [("walk", {STEPS: steps}, False) for steps in (2, 3)]
    sums = [("sum", {STEPS: steps, SCALE: scale}, False) for steps in (2, 3) for scale in (1, 10)]
    assert planned == walks + sums
    assert not (tmp_path / "out").exists()
    swept(tmp_path / "out", f"{STEPS}=2,3")
    planned = [(stage.name, stage.point, stage.cached) for stage in plan(loaded(tmp_path, *GRID), tmp_path / "out")]
    assert [cached for _, _, cached in planned] == [True, True, True, False, True, False]


# -- kills ----------------------------------------------------------------------------------------------------------


def without_seconds(path: Path) -> list[str]:
    """The lines of `sweep.csv`, without the last columns: seconds, which no two runs share, and best."""
    return [line.rsplit(",", 2)[0] for line in path.read_text().splitlines()]


def test_a_sweep_killed_at_every_named_point_goes_on_and_ends_the_same(in_a_child: InAChild, tmp_path: Path) -> None:
    """Before one in five of all writes, flushes, renames and removals, in and between the points."""
    grid = ("stages.walk.steps=1,2",)
    swept(tmp_path / "whole", *grid)
    unbroken = contents(tmp_path / "whole")
    table = without_seconds(tmp_path / "whole" / "sweep.csv")
    call, kills = 1, 0
    while True:
        out = tmp_path / f"killed-{call}"

        def attempt(out: Path = out, call: int = call) -> None:
            killed_at(call, POINTS)
            swept(out, *grid)

        status = in_a_child(attempt)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
        assert in_a_child(lambda out=out: swept(out, *grid)) == 0
        assert contents(out) == unbroken, f"killed at call {call}"
        assert not list(out.rglob("*.partial"))
        assert without_seconds(out / "sweep.csv") == table
        call += 5
    assert kills > 15


AXES = """
name: pairs
sweep:
  pair:
    keys: [stages.teacher.model, stages.student.student]
    values:
      "big:small": [mlp-32, mlp-8]
      "wide:small": [mlp-64, mlp-8]
  loss:
    keys: [stages.student.objectives]
    values: {kd: [kd], dkd: [{name: dkd, beta: 2}]}
stages:
  - {name: teacher, uses: train, with: {model: mlp-16}}
  - {name: student, uses: distill, with: {student: mlp-4, teacher: teacher}}
"""


@pytest.fixture
def of_axes(tmp_path: Path) -> str:
    path = tmp_path / "pairs.yaml"
    path.write_text(AXES, encoding="utf-8")
    return str(path)


def test_a_recipe_sweeps_its_own_axes_by_name(of_axes: str) -> None:
    sweep = load_sweep(of_axes)
    assert sweep.grid == {"pair": ["big:small", "wide:small"], "loss": ["kd", "dkd"]}
    point = sweep.points[3]
    assert point.values == {"pair": "wide:small", "loss": "dkd"}
    assert point.arguments == ("--only=pair=wide:small", "--only=loss=dkd")
    teacher, student = (stage.model_dump() for stage in point.recipe.stages.values())
    assert teacher["model"] == "mlp-64"
    assert (student["student"], student["objectives"][0]["beta"]) == ("mlp-8", 2)


def test_some_of_them_and_others_are_chosen(of_axes: str) -> None:
    swept = ["stages.student.epochs=1,2"]
    sweep = load_sweep(of_axes, swept=swept, only=["loss=dkd,[logits-mse]", "pair=[mlp-9, mlp-8]"])
    assert sweep.grid == {
        "pair": ["[mlp-9, mlp-8]"],
        "loss": ["dkd", "[logits-mse]"],
        "stages.student.epochs": [1, 2],
    }
    last = sweep.points[-1]
    assert last.recipe.stages["teacher"].model_dump()["model"] == "mlp-9"
    assert last.arguments == ("--only=pair=[mlp-9, mlp-8]", "--only=loss=[logits-mse]", "stages.student.epochs=2")
    (again,) = load_sweep(
        of_axes, last.arguments[2:], only=[text.removeprefix("--only=") for text in last.arguments[:2]]
    ).points
    assert again.recipe.stages == last.recipe.stages


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ("loss=kdd", "unknown loss 'kdd'; did you mean 'kd'"),
        ("los=kd", "unknown axis 'los'; did you mean 'loss'"),
        ("loss", "write it as name=value,value"),
        ("loss=", "write it as name=value,value"),
        ("pair=[mlp-9]", "write a list of 2: a value for each of stages.teacher.model, stages.student.student"),
    ],
)
def test_what_no_axis_has_is_named(of_axes: str, only: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        load_sweep(of_axes, only=[only])


def test_an_axis_is_chosen_from_once(of_axes: str) -> None:
    with pytest.raises(RecipeError, match="the axis 'loss' is chosen from twice"):
        load_sweep(of_axes, only=["loss=kd", "loss=dkd"])
    with pytest.raises(RecipeError, match="'loss' is an axis of the recipe's own sweep; choose with --only"):
        load_sweep(of_axes, swept=["loss=kd,dkd"])


def test_a_key_of_an_axis_is_set_by_it_alone(of_axes: str) -> None:
    for wrong in ({"overrides": ["stages.student.objectives=[kd]"]}, {"swept": ["stages.teacher.model=mlp-9"]}):
        with pytest.raises(RecipeError, match="the recipe's sweep sets this key; choose with --only"):
            load_sweep(of_axes, **wrong)  # type: ignore[arg-type]
    inside = "stages.student.objectives.0.weight=0.5"
    with pytest.raises(
        RecipeError, match=r"sweep sets stages\.student\.objectives, around it; choose with --only loss="
    ):
        load_sweep(of_axes, overrides=[inside])
    (objective,) = load_sweep(of_axes, swept=[inside], only=["loss=dkd"]).recipe.data["stages"][1]["with"]["objectives"]
    assert objective == {"name": "dkd", "beta": 2, "weight": 0.5}
    with pytest.raises(RecipeError, match=r"the recipe's sweep sets stages\.student\.student, inside it; choose with"):
        load_sweep(of_axes, swept=["stages.student={name: student}"])


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("[mlp-64, mlp-8]", "[mlp-64]", r"pairs.yaml:8: sweep.pair.values.wide:small: write a list of 2"),
        ("stages.teacher.model, ", "data.limit, ", r"pairs.yaml:5: sweep.pair.keys.0: .* sets options of stages"),
        ("{kd: [kd]", "{'k d': [kd]", "has no ',', '=' or space in it"),
        ("name: dkd,", "name: dkdd,", "unknown objective 'dkdd'"),
        ("[{name: dkd, beta: 2}]", "[kd]", "sweep.loss.values.dkd: this is what 'kd' is"),
        ("[stages.student.objectives]", "[stages.teacher.model]", "stages.teacher.model is set by 'pair' as well"),
        (
            "stages.student.student]",
            "stages.student.objectives.0.weight]",
            "it replaces stages.student.objectives.0.weight, which is set by 'pair' as well",
        ),
        ("stages:", "published: {data: digits, accuracy: {pupil: 1}}\nstages:", "unknown stage 'pupil'"),
        ("stages:", "published: {data: digits, accuracy: {student: {kdd: 1}}}\nstages:", "a value 'kdd'"),
        (
            "stages:",
            "published: {data: digits, accuracy: {student: {'big:small': {kd: 1, dk: 2}}}}\nstages:",
            "unknown loss 'dk'; did you mean",
        ),
        ("stages:", "published: {data: digits, accuracy: {student: 101}}\nstages:", "100"),
    ],
)
def test_a_wrong_axis_is_told_with_its_line(of_axes: str, right: str, wrong: str, told: str) -> None:
    Path(of_axes).write_text(AXES.replace(right, wrong), encoding="utf-8")
    with pytest.raises(RecipeError, match=told):
        load_sweep(of_axes)
