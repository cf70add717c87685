"""From nni's jobs to trials, where nni itself may be mistaken about whose values are whose."""

from dataclasses import replace

import pytest

from nasdistill.recipes.loading import load_recipe
from nasdistill.report.experiments import Trial
from nasdistill.storage import write_sealed
from nasdistill.tuning.outcome import BEST, best_of, front_of, trials_of, write_best
from nasdistill.tuning.plan import digest_of
from tests.report.fake_experiments import fake_experiment
from tests.tuning.parts import KEY, job, record, told, write_plan

NAN = float("nan")


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path)


def test_values_are_those_that_trials_told_not_those_that_nni_noted(plan, tmp_path):
    jobs = [
        job("a", "SUCCEEDED", 1.0, 2.0, told(1.0, 80.0), told(1.0, 85.0, record=record(85.0))),
        job("b", "SUCCEEDED", 2.0, 1.0, told(2.0, 81.0), told(2.0, 89.0, record=record(89.0, "trials/b"))),
    ]

    first, second = trials_of(jobs, plan, tmp_path / "out")

    assert (first.values, first.score, first.folder) == ({KEY: 1.0}, 85.0, "trials/a")
    assert (second.values, second.score, second.intermediate) == ({KEY: 2.0}, 89.0, (81.0,))
    assert (second.number, second.accuracy, second.parameters, second.seconds) == (1, {"last": 80.0}, 7, 3.0)
    assert best_of([first, second], higher_is_better=True) == 1
    assert best_of([first, second], higher_is_better=False) == 0


def test_of_equal_scores_the_first_trial_is_the_best(plan, tmp_path):
    jobs = [
        job(str(x), "SUCCEEDED", 1.0, x, told(x, score, record=record(score)))
        for x, score in ((1.0, 80.0), (2.0, 85.0), (3.0, 85.0), (4.0, 80.0))
    ]
    trials = trials_of(jobs, plan, tmp_path / "out")
    assert best_of(trials, higher_is_better=True) == 1
    assert best_of(trials, higher_is_better=False) == 0


def test_a_score_that_is_no_number_is_none(plan, tmp_path):
    jobs = [job("a", "SUCCEEDED", 1.0, 1.0, told(1.0, 70.0), told(1.0, NAN, 1), told(1.0, NAN, record=record(NAN)))]
    (trial,) = trials_of(jobs, plan, tmp_path / "out")
    assert (trial.score, trial.intermediate) == (None, (70.0,))
    assert best_of([trial], higher_is_better=False) is None


def test_a_trial_that_started_again_under_another_manager_counts_once(plan, tmp_path):
    before = (told(1.0, 70.0, 0), told(1.0, 71.0, 1))
    after = (told(1.0, 70.0, 0), told(1.0, 71.0, 1), told(1.0, 72.0, 2), told(1.0, 85.0, record=record(85.0)))

    (trial,) = trials_of([job("a", "SUCCEEDED", 1.0, 1.0, *before, *after)], plan, tmp_path / "out")

    assert trial.intermediate == (70.0, 71.0, 72.0)


def test_a_job_that_got_other_values_when_it_started_again_is_a_trial_with_those(plan, tmp_path):
    swapped = (told(1.0, 70.0, 0), told(2.0, 60.0, 0), told(2.0, 65.0, record=record(65.0)))

    (trial,) = trials_of([job("a", "SUCCEEDED", 1.0, 1.0, *swapped)], plan, tmp_path / "out")

    assert (trial.values, trial.score, trial.intermediate) == ({KEY: 2.0}, 65.0, (60.0,))


def test_equal_values_are_shown_once_and_the_trial_that_came_further_counts(plan, tmp_path):
    done = job("a", "SUCCEEDED", 1.0, 1.0, told(1.0, 85.0, record=record(85.0)))
    running = job("b", "RUNNING", 2.0, 1.0, told(1.0, 70.0))

    for jobs in ([done, running], [running, done]):
        (trial,) = trials_of(jobs, plan, tmp_path / "out")
        assert (trial.state, trial.score) == ("succeeded", 85.0)


def test_states(plan, tmp_path):
    jobs = [
        job("a", "EARLY_STOPPED", 1.0, 1.0, told(1.0, 72.0, 0), told(1.0, 71.5, 1)),
        job("b", "RUNNING", 2.0, 2.0, told(2.0, 60.0)),
        job("c", "ADD_RESUMED", 3.0, 3.0),
        job("d", "WAITING", None, 4.0),
        job("e", "FAILED", 5.0, 5.0),
        job("f", "FAILED", 6.0, 5.5),
        job("g", "USER_CANCELED", 7.0, 1.5),
        job("h", "SYS_CANCELED", 8.0, 2.5, told(2.5, 40.0)),
        job("i", "UNKNOWN", 9.0, 3.5),
    ]
    folder = tmp_path / "out" / "trials" / digest_of({KEY: 0.5})
    folder.mkdir(parents=True)
    write_sealed(folder / "trial.json", {"values": {KEY: 0.5}, "job": "f", "problem": "x is beyond"})

    stopped, running, resumed, waiting, failed, noted, *others = trials_of(jobs, plan, tmp_path / "out")

    assert (stopped.state, stopped.score, stopped.seconds) == ("stopped early", 71.5, 5.0)
    assert [(trial.state, trial.score) for trial in others] == [
        ("stopped early", None),
        ("stopped early", 40.0),
        ("failed", None),
    ]
    assert (running.state, running.score, resumed.state, waiting.state) == ("running", None, "waiting", "waiting")
    assert (failed.state, failed.problem) == ("failed", "nni says FAILED; its output is in /logs/e")
    assert (noted.values, noted.problem) == ({KEY: 0.5}, "x is beyond")
    assert best_of([stopped, running, failed], higher_is_better=True) is None


def test_the_best_recipe_is_the_recipe_at_the_best_values_and_runs(plan, tmp_path):
    jobs = [job("a", "SUCCEEDED", 1.0, 1.0, told(1.25, 86.9, record=record(86.9)))]
    experiment = replace(fake_experiment(0), trials=trials_of(jobs, plan, tmp_path / "out"), best=0)
    (tmp_path / "plan").rename(tmp_path / "out" / "plan")

    write_best(experiment, tmp_path / "out")

    path = tmp_path / "out" / BEST
    recipe = load_recipe(str(path))
    assert recipe.stages["score"].x == 1.25
    assert recipe.settings.tune is None
    assert "trial 0, validation score of student, %: 86.9" in path.read_text()


def test_the_best_recipe_has_texts_and_no_sweep(tmp_path):
    """A sweep would run at its own values, not at those that won."""
    write_plan(tmp_path, vary={"stages.score.killed_once": "[a, b]"})
    (tmp_path / "plan").rename(tmp_path / "out" / "plan")
    with (tmp_path / "out" / "plan" / "recipe.yaml").open("a") as file:
        file.write("sweep: {x: {keys: [stages.score.x], values: {one: 1, two: 2}}}\n")
    trial = Trial(0, {"stages.score.killed_once": "b"}, "succeeded", 86.9)

    write_best(replace(fake_experiment(0), trials=(trial,), best=0), tmp_path / "out")

    recipe = load_recipe(str(tmp_path / "out" / BEST))
    assert recipe.stages["score"].killed_once == "b"
    assert not recipe.settings.sweep


def test_the_front_has_a_recipe_for_each_of_its_trials_and_none_for_others(plan, tmp_path):
    def trial(number, score, latency, violated=()):
        costs = {"latency_ms": latency, "bytes": 1.0}
        return Trial(number, {KEY: float(number)}, "succeeded", score, costs=costs, violated=violated)

    trials = [
        trial(0, 80.0, 1.0),
        trial(1, 90.0, 5.0),
        trial(2, 85.0, 5.0),  # slower than 0 and as slow as 1, which is better
        trial(3, 85.0, 2.0),
        trial(4, 85.0, 2.0),  # as 3
        trial(5, 99.0, 1.0, ("bytes<=0.5",)),
    ]
    assert front_of(trials, True, ["latency_ms"]) == (1, 3, 0)
    assert front_of(trials, False, ["latency_ms"]) == (0,)
    assert front_of(trials, True, []) == ()
    assert best_of(trials, True) == 1
    (tmp_path / "plan").rename(tmp_path / "out" / "plan")
    experiment = replace(fake_experiment(0), trials=tuple(trials), best=1)
    for front, names in (((1, 3), ["best-1.yaml", "best-3.yaml"]), ((1, 0), ["best-0.yaml", "best-1.yaml"])):
        write_best(replace(experiment, front=front), tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").glob("best*")) == names
    assert load_recipe(str(tmp_path / "out" / "best-0.yaml")).stages["score"].x == 0
