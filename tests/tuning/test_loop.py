"""The loop around nni's manager, with a manager that follows a script: what it is given, and what becomes of trials."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from nasdistill.errors import Interrupted, UserError
from nasdistill.interrupts import polite_stops
from nasdistill.recipes.source import RecipeError
from nasdistill.recipes.trust import run_all
from nasdistill.report.experiments import load_experiment
from nasdistill.tuning import nni_engine
from nasdistill.tuning import run as runs
from nasdistill.tuning.checking import load_tuned
from nasdistill.tuning.experiment import tune
from nasdistill.tuning.manager import ManagerGone
from nasdistill.tuning.plan import read_plan
from nasdistill.tuning.service import Portal, Service
from tests.tuning.parts import KEY, job, record, told, write_recipe

nni = pytest.importorskip("nni.experiment")

GONE = ManagerGone("it does not answer")
NOBODY = 2**22 + 1
"""Beyond the largest number of a process."""


def ended(name, x):
    """A trial whose score is twice its value."""
    return job(name, "SUCCEEDED", x, x, told(x, 2 * x, record=record(2 * x)))


class Scripted:
    """A manager; each look at it takes the next line of the script: a status with jobs, or what is raised."""

    experiment, port, process = "scripted", 8080, NOBODY

    def __init__(self, *script):
        self.script = iter(script)
        self.seen = []
        self.started = []
        self.changed = []
        self.running = None

    def start(self, experiment, config, host, port):
        self.started.append((config, host, port))
        return self

    def find(self, experiment, port, process):
        return self.running

    def status(self):
        line = next(self.script)
        if isinstance(line, BaseException):
            raise line
        status, *self.seen = line() if callable(line) else line
        return status

    def jobs(self):
        return self.seen

    def problem(self):
        return "the tuner broke"

    def change(self, **limits):
        self.changed.append(limits)

    def stop(self):
        self.stopped = True

    def alive(self):
        return False


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting, and no page, which has tests of its own."""
    monkeypatch.setattr(nni_engine, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(runs, "write_experiment", lambda *_: None)


def run(folder, manager, monkeypatch, service=None, portal=None, vary=None, **settings):
    monkeypatch.setattr(nni_engine, "Manager", manager)
    tuned = load_tuned(str(write_recipe(folder, vary, {"engine": "nni", **settings})), (), (), {}, run_all)
    return tune(tuned, folder / "out", "nasdistill tune toy.yaml", service, portal)


def test_nni_gets_what_the_recipe_says(tmp_path, monkeypatch):
    manager = Scripted(["DONE", ended("a", 1.0)])
    run(
        tmp_path,
        manager,
        monkeypatch,
        vary={KEY: "loguniform(1, 6)"},
        metric="validation.loss",
        assessor={"name": "Medianstop", "start_step": 3},
        trials=5,
        concurrency=2,
        duration="8h",
        trial_duration="30m",
    )

    ((config, host, port),) = manager.started
    assert config == {
        "experimentName": "toy",
        "searchSpace": {KEY: {"_type": "loguniform", "_value": [1, 6]}},
        "trialCommand": f"exec {sys.executable} -m nasdistill.tuning.trial",
        "trialCodeDirectory": str(tmp_path / "out" / "plan"),
        "trialConcurrency": 2,
        "maxTrialNumber": 5,
        "maxExperimentDuration": "8h",
        "maxTrialDuration": "30m",
        "tuner": {"name": "TPE", "classArgs": {"optimize_mode": "minimize", "seed": 0}},
        "assessor": {"name": "Medianstop", "classArgs": {"optimize_mode": "minimize", "start_step": 3}},
        "trainingService": {"platform": "local"},
    }
    nni.ExperimentConfig(**config).canonical_copy()  # nni takes it
    assert (host, port) == ("127.0.0.1", None)
    assert manager.changed == [{"maxTrialNumber": 5, "trialConcurrency": 2, "maxExperimentDuration": "8h"}]
    assert read_plan(tmp_path / "out" / "plan").threads == max(1, os.cpu_count() // 2)


def test_passwords_go_to_nni_alone(tmp_path, monkeypatch):
    machine = {"host": "10.0.0.7", "user": "me", "password": "hush-hush"}
    service = Service({"trainingService": {"platform": "remote", "machineList": [machine]}}, "remote", "python3 -m it")
    manager = Scripted(["RUNNING"], GONE, ["DONE", ended("a", 1.0)])

    run(tmp_path, manager, monkeypatch, service, Portal("0.0.0.0", 8081))  # noqa: S104

    config, *where = manager.started[-1]
    assert config["trainingService"]["machineList"] == [machine]
    assert config["trialCommand"] == "python3 -m it"
    assert where == ["0.0.0.0", 8081]  # noqa: S104
    assert read_plan(tmp_path / "out" / "plan").threads is None
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if b"hush-hush" in path.read_bytes()]


@pytest.mark.parametrize(("metric", "best"), [("validation.score", 3.0), ("validation.loss", 1.0)])
def test_the_best_trial_is_written_as_a_recipe(metric, best, tmp_path, monkeypatch):
    jobs = [ended("a", 2.0), ended("b", 3.0), ended("c", 1.0), job("d", "EARLY_STOPPED", 9.0, 0.5, told(0.5, 99.0))]

    found = run(tmp_path, Scripted(["DONE", *jobs]), monkeypatch, metric=metric)

    assert found.best_trial.values == {KEY: best}
    assert found.metric == f"validation {metric[11:]} of score" + (", %" if metric == "validation.score" else "")
    assert f"x: {best}" in (tmp_path / "out" / "best.yaml").read_text()


def test_a_manager_that_ends_is_started_again_and_what_it_told_is_kept(tmp_path, monkeypatch, caplog):
    one, two = ended("a", 1.0), ended("b", 2.0)
    manager = Scripted(["RUNNING", one], GONE, ["ERROR", one], ["RUNNING", one, two], ["DONE", one, two])

    with caplog.at_level("INFO", "nasdistill"):
        found = run(tmp_path, manager, monkeypatch)

    assert len(manager.started) == 3
    assert [trial.score for trial in found.trials] == [2.0, 4.0]
    assert "it does not answer" in caplog.text
    assert "the tuner broke" in caplog.text
    assert caplog.text.count(" succeeded: ") == 2  # each told once


def test_a_manager_that_ends_again_and_again_is_given_up_unless_trials_end_in_between(tmp_path, monkeypatch):
    one, two = ended("a", 1.0), ended("b", 2.0)
    manager = Scripted(["RUNNING", one], *[GONE] * 4, ["RUNNING", one, two], *[GONE] * 5)

    with pytest.raises(UserError, match="nni's manager ended 5 times, at last because it does not answer; what is do"):
        run(tmp_path, manager, monkeypatch)

    assert len(manager.started) == 1 + 4 + 4
    assert len(load_experiment(tmp_path / "out").trials) == 2


def test_an_experiment_ends_where_the_tuner_has_no_other_values(tmp_path, monkeypatch, caplog):
    """nni itself would wait for ever. A trial that it suggested last may start a moment later."""
    nothing_left = ["TUNER_NO_MORE_TRIAL", ended("a", 1.0)]
    late = ["TUNER_NO_MORE_TRIAL", ended("a", 1.0), job("b", "RUNNING", 2.0, 2.0)]
    in_the_end = ["TUNER_NO_MORE_TRIAL", ended("a", 1.0), ended("b", 2.0)]
    manager = Scripted(nothing_left, nothing_left, late, in_the_end, in_the_end, in_the_end)

    found = run(tmp_path, manager, monkeypatch, trials=5)

    assert [trial.state for trial in found.trials] == ["succeeded", "succeeded"]
    assert manager.stopped
    assert "the tuner has no other values to try: 2 trials, not 5" in caplog.text


def test_a_stop_leaves_the_trials_to_the_next_call(tmp_path, monkeypatch):
    def stopped():
        os.kill(os.getpid(), signal.SIGTERM)
        return ["RUNNING", ended("a", 1.0), job("b", "RUNNING", 2.0, 2.0)]

    with polite_stops(), pytest.raises(Interrupted):
        run(tmp_path, Scripted(stopped), monkeypatch)

    assert [trial.state for trial in load_experiment(tmp_path / "out").trials] == ["succeeded", "running"]


def test_the_next_call_goes_on_with_the_same_experiment_and_its_own_limits(tmp_path, monkeypatch, caplog):
    done = [ended("a", 1.0), ended("b", 2.0)]
    run(tmp_path, Scripted(["DONE", *done]), monkeypatch, trials=2)
    name = read_plan(tmp_path / "out" / "plan").experiment

    nothing_to_do = Scripted()
    assert len(run(tmp_path, nothing_to_do, monkeypatch, trials=2).trials) == 2
    assert nothing_to_do.started == []

    more = Scripted(["DONE", *done, ended("c", 3.0)])
    caplog.clear()
    with caplog.at_level("INFO", "nasdistill"):
        found = run(tmp_path, more, monkeypatch, trials=3, concurrency=3, attempts=1)
    assert more.changed == [{"maxTrialNumber": 3, "trialConcurrency": 3}]
    assert caplog.text.count(" succeeded: ") == 1  # those of before are no news
    assert found.best == 2
    assert read_plan(tmp_path / "out" / "plan").experiment == name

    with pytest.raises(UserError, match=r"holds an experiment with other settings \(tune\.tuner\)"):
        run(tmp_path, Scripted(), monkeypatch, trials=3, tuner="Random")


def test_a_manager_that_still_runs_is_followed(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):  # as if this process were killed
        run(tmp_path, Scripted(KeyboardInterrupt()), monkeypatch)
    manager = Scripted(["DONE", ended("a", 1.0)])
    manager.running = manager

    found = run(tmp_path, manager, monkeypatch)

    assert manager.started == []
    assert manager.stopped
    assert found.best == 0
    assert json.loads((tmp_path / "out" / "tune.json").read_text())["manager"] is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tuner": {"name": "Hyperband", "R": 9}}, "Hyperband hands out budgets: name the key that takes them"),
        ({"budget_key": KEY}, "TPE hands out no budgets"),
        ({"tuner": {"name": "TPE", "sed": 3}}, r"toy\.yaml:\d+: tune\.tuner\.sed: unknown option of TPE 'sed'"),
    ],
)
def test_a_tuner_that_does_not_fit_is_refused_with_its_line(settings, words, tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match=words):
        run(tmp_path, Scripted(), monkeypatch, **settings)
