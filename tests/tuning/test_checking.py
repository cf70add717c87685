"""What is wrong with an experiment is told before anything runs."""

from typing import ClassVar

import pytest
from pydantic import Field

from nasdistill.errors import UserError
from nasdistill.plugins import load_plugin
from nasdistill.recipes.source import RecipeError
from nasdistill.recipes.trust import run_all
from nasdistill.registry import plugins
from nasdistill.stages import STAGES, Stage
from nasdistill.tuning.checking import curve_of, load_tuned, recipe_at
from nasdistill.tuning.plan import digest_of
from tests.tuning.parts import KEY, PLUGIN, write_plan, write_recipe

RECIPE = """
name: real
stages:
  - name: teacher
    uses: train
    with: {model: mlp, epochs: 1}
  - name: student
    uses: distill
    with: {student: mlp-16, teacher: teacher, epochs: 2, objectives: [{name: kd, temperature: 4}]}
  - name: test
    uses: evaluate
    with: {network: student}
  - name: check
    uses: evaluate
    with: {network: student, part: validation}
"""


def tuned(tmp_path, text=RECIPE, **tune):
    path = tmp_path / "real.yaml"
    path.write_text(text)
    return load_tuned(str(path), (), (), tune)


VARY = {"stages.student.objectives.0.temperature": "uniform(1, 9)"}


def test_the_last_stage_with_a_validation_score_counts(tmp_path):
    assert tuned(tmp_path, vary=VARY).stage == "check"
    teachers = {"stages.teacher.epochs": "[1, 2]"}
    assert tuned(tmp_path, vary=teachers, stage="teacher").stage == "teacher"
    without = RECIPE[: RECIPE.index("  - name: check")]
    assert tuned(tmp_path, without, vary=VARY).stage == "student"  # `test` looks at test images, which choose nothing


@pytest.mark.parametrize(
    ("vary", "override", "told"),
    [
        (["stages.student.epochs"], "stages.student.epochs=3", "override .*: stages.student.epochs varies; leave one"),
        (
            ["stages.student.objectives"],
            "stages.student.objectives.0.temperature=3",
            "stages.student.objectives varies",
        ),
        (
            ["stages.student.objectives.0.weight", "stages.student.objectives"],
            "seed=1",
            "only after stages.student.obj",
        ),
        (
            ["stages.student.epochs", "stages.teacher,student.epochs"],
            "seed=1",
            "only without stages.teacher,student.ep",
        ),
    ],
)
def test_what_something_that_varies_replaces_is_refused(tmp_path, vary, override, told):
    path = tmp_path / "real.yaml"
    path.write_text(RECIPE)
    with pytest.raises(UserError, match=told):
        load_tuned(str(path), (override,), (), {"vary": dict.fromkeys(vary, "[1, 2]")})


@pytest.mark.parametrize(
    ("tune", "told"),
    [
        ({}, "nothing varies; say what does with --vary"),
        ({"vary": {"stages.studnt.epochs": "[1, 2]"}}, "unknown stage 'studnt'; did you mean 'student'"),
        ({"vary": {"stages.student.epoch": "[1, 2]"}}, "--vary stages.student.epoch=1"),
        ({"vary": {"stages.student.epochs": "uniform(-3, 5)"}}, "greater than 0"),
        ({"vary": VARY, "objectives": ["bytes", "bytes"]}, "objectives: 'bytes' stands here twice"),
        ({"vary": {"stages.student.epochs": "uniform(1, 5)"}}, "must be an integer"),
        ({"vary": {"stages.student.epochs": "quniform(1, 5, 0.5)"}}, "must be an integer"),
        ({"vary": {"stages.student.student": "[mlp-16, mpl-32]"}}, "--vary stages.student.student=mpl-32"),
        ({"vary": {"seed": "randint(0, 9)"}}, "an experiment varies stages; 'seed' stays as it is"),
        ({"vary": VARY, "stage": "teacher"}, "does not reach 'teacher', whose score counts"),
        ({"vary": VARY, "stage": "chek"}, "unknown stage 'chek'; did you mean 'check'"),
        ({"vary": VARY, "stage": "test"}, "'test' has no validation score"),
        ({"vary": VARY, "metric": "accuracy.best"}, "'validation.score' or 'validation.loss'"),
        ({"vary": VARY, "assessor": "Medianstop"}, "'check' reports no score before it ends"),
        ({"vary": VARY, "budget_key": "stages.student.epoch"}, "--budget-key stages.student.epoch=1"),
        ({"vary": VARY, "concurrency": 2}, "leave concurrency or devices at 1"),
        ({"vary": VARY, "duration": "8 hours"}, "a time is a whole number with s, m, h or d"),
        ({"vary": VARY, "trials": 0}, "greater than 0"),
        ({"vary": VARY, "trial": 3}, "unknown key 'trial'; did you mean 'trials'"),
    ],
)
def test_mistakes(tmp_path, tune, told):
    text = RECIPE + ("engine: {devices: 2}\n" if "concurrency" in tune else "")
    with pytest.raises(RecipeError) as error:
        tuned(tmp_path, text, **tune)
    assert told in str(error.value)


def test_a_mistake_in_the_file_has_its_line(tmp_path):
    text = RECIPE + 'tune:\n  vary: {stages.student.epochs: "unifrm(1, 2)"}\n'
    with pytest.raises(RecipeError, match=r"real\.yaml:17: tune\.vary\.stages\.student\.epochs: unknown distribution"):
        tuned(tmp_path, text)


def test_without_a_stage_to_score_there_is_no_experiment(tmp_path):
    text = "name: real\nstages: [{name: a, uses: search, with: {space: darts-tiny, strategy: random}}]\n"
    with pytest.raises(RecipeError, match="none has a validation score"):
        tuned(tmp_path, text, vary={"stages.a.space": "[darts-tiny]"})


def test_scores_of_two_kinds_are_not_compared(tmp_path):
    vary = {"stages.student.select": "[accuracy, balanced-accuracy]"}
    with pytest.raises(RecipeError, match="scores of 'student' would be of validation/accuracy and of validation/bal"):
        tuned(tmp_path, RECIPE, vary=vary, stage="student")
    assert tuned(tmp_path, RECIPE, vary=vary, stage="student", metric="validation.loss")


def test_a_field_called_select_is_no_score(tmp_path, monkeypatch):
    monkeypatch.setattr(STAGES, "_components", {name: STAGES.get(name) for name in STAGES.loaded()})

    @STAGES.register("picks")
    class Picks(Stage):
        makes: ClassVar[str] = "metrics"
        select: str = Field("accuracy", description="something else")

    with pytest.raises(RecipeError, match="none has a validation score"):
        tuned(tmp_path, "name: real\nstages: [{name: a, uses: picks}]\n", vary={"stages.a.select": "[a, b]"})


def test_options_join_and_replace_what_the_recipe_says(tmp_path):
    text = RECIPE + "tune: {vary: {stages.student.epochs: '[1, 2]'}, trials: 4, tuner: Random}\n"

    settings = tuned(tmp_path, text, vary=VARY, trials=9).settings

    assert list(settings.vary) == ["stages.student.epochs", *VARY]
    assert (settings.trials, settings.tuner) == (9, "Random")


@pytest.mark.parametrize(
    ("metric", "select", "curve", "higher"),
    [
        ("validation.score", "accuracy", "validation/accuracy", True),
        ("validation.score", "balanced-accuracy", "validation/balanced accuracy", True),
        ("validation.score", "loss", "validation/accuracy", True),
        ("validation.loss", "accuracy", "validation/loss", False),
    ],
)
def test_the_metric_has_a_curve_of_validation_images_and_a_direction(tmp_path, metric, select, curve, higher):
    text = RECIPE.replace("epochs: 2", f"epochs: 2, select: {select}")

    found = tuned(tmp_path, text, vary=VARY, stage="student", metric=metric)

    assert curve_of(found.recipe.stages["student"], found.settings.metric) == curve
    assert found.settings.higher_is_better is higher


def test_a_plan_takes_plugins_along_and_its_recipe_runs_elsewhere(tmp_path):
    write_plan(tmp_path / "here")

    (tmp_path / "here" / "plan").rename(tmp_path / "there")
    recipe = recipe_at(tmp_path / "there", {KEY: 4.0})

    assert recipe.stages["score"].x == 4.0
    assert recipe.settings.plugins == (str(tmp_path / "there" / "parabola.py"),)
    assert (tmp_path / "there" / "parabola.py").read_bytes() == PLUGIN.read_bytes()


def test_a_plan_takes_along_what_a_plugin_imports_from_beside_it(tmp_path):
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "helper.py").write_text("TWO = 2\n")
    (tmp_path / "beside" / "other.py").write_text("")
    (tmp_path / "beside" / "mine.py").write_text("import helper\nassert helper.TWO == 2\n")
    plugin = tmp_path / "beside" / "mine.py"
    plan = write_plan(tmp_path / "here")
    found = load_tuned(str(tmp_path / "here" / "toy.yaml"), (), [str(plugin)], {}, run_all)

    plan.write(tmp_path / "plan", {}, found.plugins, found.files)

    names = {path.name for path in (tmp_path / "plan").glob("*.py")}
    assert names == {"parabola.py", "mine.py", "helper.py"}
    load_plugin(str(tmp_path / "plan" / "mine.py"))
    assert str(tmp_path / "plan" / "mine.py") not in plugins.broken


def test_two_plugins_of_one_name_are_refused(tmp_path):
    other = tmp_path / "other" / "parabola.py"
    other.parent.mkdir()
    other.write_text("")
    with pytest.raises(UserError, match=r"plugins in one folder, but parabola\.py is .* and .*; rename one"):
        load_tuned(str(write_recipe(tmp_path)), (), [str(other)], {}, run_all)


def test_equal_values_are_one_trial():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
