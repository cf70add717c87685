"""The recipes of experiments in a tiny form: what a trial of each runs, at one value."""

import pytest

from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.tuning.checking import load_tuned
from nasdistill.tuning.worker import summary
from tests.tuning.parts import write_plan

COMMON = ("data=digits", "data.limit=200", "seeds=[0]")
TINY = {
    "tune-zero-shot-beta": (
        "stages.teacher.model=wrn-10-1",
        "stages.teacher.epochs=1",
        "stages.zero-shot.student=wrn-10-1",
        "stages.zero-shot.pseudo_batches=2",
        "stages.zero-shot.evaluate_every=2",
    ),
    "tune-ground-truth": (
        "stages.teacher.model=mlp",
        "stages.student.student=mlp",
        "stages.teacher,student.epochs=1",
    ),
}


@pytest.mark.parametrize("name", TINY)
def test_a_trial_runs_to_its_end_and_has_a_score(name, tmp_path):
    overrides = (*COMMON, *TINY[name])
    tuned = load_tuned(name, overrides, (), {})
    ((key, varied),) = tuned.settings.vary.items()
    value = varied.examples()[0]

    record = run(load_recipe(name, overrides, swept={key: value}), tmp_path / "out", "a trial")

    plan = write_plan(tmp_path / "plan").model_copy(update={"stage": tuned.stage, "metric": tuned.settings.metric})
    told = summary(record, plan)
    assert 0 <= told["score"] <= 100
    row = next(row for row in record.rows if row.stage == tuned.stage)
    assert told["score"] == row.metrics["validation"]["score"]
    assert told["parameters"] == row.parameters
    # Of test images alone, at which the stage that evaluates on validation images never looked.
    assert told["accuracy"] == ({} if row.uses == "evaluate" else row.metrics["accuracy"])
