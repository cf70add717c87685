"""The engine optuna: what it draws, what becomes of trials, and who works on them; one test with real processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nasdistill.errors import Interrupted, UserError
from nasdistill.interrupts import polite_stops
from nasdistill.recipes.source import RecipeError
from nasdistill.recipes.trust import run_all
from nasdistill.report.experiments import load_experiment
from nasdistill.tuning import lease, optuna_engine
from nasdistill.tuning import run as runs
from nasdistill.tuning.checking import load_tuned
from nasdistill.tuning.experiment import engine_of, tune
from nasdistill.tuning.lease import Lease
from tests.tuning.parts import KEY, write_recipe


class Quick:
    """A trial that costs nothing: 90 - (x - 3)^2, told in three steps; ten parameters for each unit of x."""

    begun: list = []
    dies_at: int | None = None

    def __init__(self, plan, plan_folder, place, values, log):
        self.values, self.record, self.problem, self.asked = values, None, None, None

    def stop(self, number):
        self.asked = number

    def run(self, hearer):
        type(self).begun.append(self.values)
        x = self.values[KEY]
        score = 90 - (x - 3) ** 2
        for step in (1, 2, 3):
            hearer.report_intermediate_result({"default": score - 3 + step})
            if len(self.begun) == self.dies_at:
                raise KeyboardInterrupt  # as if this process were killed
            if self.asked is not None:
                return -self.asked
        costs = {"parameters": 10 * x, "latency_ms": x}
        self.record = {"score": score, "accuracy": {}, "parameters": round(10 * x), "seconds": 1.0, "costs": costs}
        hearer.report_final_result({"default": score, "record": self.record})
        return 0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(optuna_engine, "TrialRun", Quick)
    monkeypatch.setattr(optuna_engine, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(runs, "write_experiment", lambda *_: None)
    monkeypatch.setattr(runs, "Records", lambda *_: Silent())
    monkeypatch.setattr(Quick, "begun", [])


class Silent:
    """Records that tell nothing; TensorBoard imports torch."""

    def progress(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def step(self, *_): ...

    scalars = close = step


def run(folder, vary=None, **settings):
    tuned = load_tuned(str(write_recipe(folder, vary, settings)), (), (), {}, run_all)
    return tune(tuned, folder / "out", "nasdistill tune toy.yaml")


def xs(experiment):
    return [trial.values[KEY] for trial in experiment.trials]


@pytest.mark.parametrize(
    "tuner", ["TPE", {"name": "NSGA-II", "population_size": 4}, pytest.param("GP", marks=pytest.mark.slow)]
)
def test_an_experiment_that_was_killed_goes_on_as_it_would_have(tuner, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", tuner=tuner, trials=13)
    assert len(set(xs(whole))) == 13
    assert [trial.score for trial in whole.trials] == [90 - (x - 3) ** 2 for x in xs(whole)]
    assert all(trial.intermediate == (trial.score - 2, trial.score - 1, trial.score) for trial in whole.trials)

    monkeypatch.setattr(Quick, "begun", [])
    monkeypatch.setattr(Quick, "dies_at", 12)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", tuner=tuner, trials=13)
    with open(tmp_path / "killed/out/journal.log", "ab") as journal:
        journal.write(b'{"op_code": 4, "wor')  # by a kill in the middle of a line
    monkeypatch.setattr(Quick, "dies_at", None)
    resumed = run(tmp_path / "killed", tuner=tuner, trials=13)

    assert xs(resumed) == xs(whole)
    assert Quick.begun[11] == Quick.begun[12]  # the one that was killed
    assert [trial.intermediate for trial in resumed.trials] == [trial.intermediate for trial in whole.trials]

    more = run(tmp_path / "killed", tuner=tuner, trials=14)
    assert xs(more)[:13] == xs(whole)
    assert len(Quick.begun) == 15
    with pytest.raises(UserError, match=r"holds an experiment with other settings \(tune\.tuner\)"):
        run(tmp_path / "killed", tuner="Random", trials=14)


def test_what_a_kill_left_out_at_the_very_end_is_made_by_the_next_call(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_experiment", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, {KEY: "[2.5, 4]"}, tuner="GridSearch")
    assert not (tmp_path / "out/best.yaml").exists()

    run(tmp_path, {KEY: "[2.5, 4]"}, tuner="GridSearch")

    assert len(Quick.begun) == 2
    assert "x: 2.5" in (tmp_path / "out/best.yaml").read_text()
    assert not (tmp_path / "out/unfinished.json").exists()


def test_equal_values_are_one_trial_and_an_experiment_ends_where_there_are_no_others(tmp_path, caplog):
    found = run(tmp_path, {KEY: "choice(1, 2, 3)", "stages.score.fails_above": "[8, 9]"}, trials=50)

    assert sorted((trial.values[KEY], trial.values["stages.score.fails_above"]) for trial in found.trials) == [
        (x, y) for x in (1, 2, 3) for y in (8, 9)
    ]
    assert len(Quick.begun) == 6
    assert "there are no other values to try: 6 trials, not 50" in caplog.text


def test_the_grid_goes_through_all_values_in_their_order(tmp_path):
    assert xs(run(tmp_path, {KEY: "quniform(1, 6, 2)"}, tuner="GridSearch")) == [2, 4, 6]


def test_workers_share_the_trials(tmp_path):
    found = run(tmp_path, tuner="Random", trials=8, concurrency=3)

    assert sorted(values[KEY] for values in Quick.begun) == sorted(set(xs(found)))
    assert len(found.trials) == 8


def test_a_stop_gives_the_trial_back(tmp_path, monkeypatch):
    def stopped(self, _hearer):
        os.kill(os.getpid(), signal.SIGTERM)
        while self.asked is None:
            time.sleep(0.01)
        return -self.asked

    finished = Quick.run
    monkeypatch.setattr(Quick, "run", stopped)
    with polite_stops(), pytest.raises(Interrupted):
        run(tmp_path, trials=2)
    (trial,) = load_experiment(tmp_path / "out").trials
    assert trial.state == "running"
    monkeypatch.setattr(Quick, "run", finished)

    found = run(tmp_path, trials=2)

    assert [each.state for each in found.trials] == ["succeeded"] * 2
    assert found.trials[0].values == trial.values


def test_trials_that_lag_behind_or_fail_are_told_apart(tmp_path, monkeypatch):
    settings = {"tuner": "GridSearch", "assessor": {"name": "Medianstop", "n_startup_trials": 1}}
    (first, second) = run(tmp_path / "lags", {KEY: "[3, 9]"}, **settings).trials
    assert (first.state, second.state, second.intermediate, second.score) == ("succeeded", "stopped early", (52,), 52)

    def failing(self, _hearer):
        self.problem = "x is 3, beyond 2"
        return 2

    monkeypatch.setattr(Quick, "run", failing)
    found = run(tmp_path / "fails", {KEY: "[3]"})
    assert [(trial.state, trial.problem) for trial in found.trials] == [("failed", "x is 3, beyond 2")]
    assert found.best is None


def test_a_trial_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    def endless(self, hearer):
        hearer.report_intermediate_result({"default": 7.0})
        while self.asked is None:
            time.sleep(0.01)
        return -self.asked

    monkeypatch.setattr(Quick, "run", endless)
    (trial,) = run(tmp_path, trials=1, trial_duration="1s").trials
    assert (trial.state, trial.score) == ("stopped early", 7.0)


@pytest.mark.parametrize("tuner", ["TPE", "NSGA-II"])
def test_the_best_trial_keeps_the_limits_and_samplers_look_for_such(tuner, tmp_path):
    found = run(tmp_path, tuner=tuner, trials=25, constraints=["parameters<=20"])

    assert found.best_trial.values[KEY] <= 2
    assert {trial.violated for trial in found.trials if trial.values[KEY] > 2} == {("parameters<=20",)}
    if tuner == "TPE":  # which prefers what keeps the limits, after ten random trials
        assert sum(x <= 2 for x in xs(found)[10:]) > 7  # of 15, where a third of the range does
    assert run(tmp_path / "none", trials=2, constraints=["parameters<=0.1k", "latency_ms>=50"]).best is None
    (trial,) = run(tmp_path / "untold", trials=1, constraints=["bytes<=1MB"]).trials
    assert trial.problem == "the stage 'score' tells no bytes, on which the experiment depends"


def test_of_several_objectives_comes_a_front(tmp_path):
    found = run(tmp_path, {KEY: "[4, 3.5, 2.5, 1]"}, objectives=["latency_ms"], tuner="GridSearch")

    assert found.front == (2, 3)  # 3.5 scores as 2.5 does, and is slower
    assert found.best == 2
    assert sorted(path.name for path in (tmp_path / "out").glob("best*")) == ["best-2.yaml", "best-3.yaml"]


def test_a_lease_ends_with_its_holder_or_with_its_machine(tmp_path, monkeypatch):
    held = Lease.take(tmp_path)
    assert Lease.take(tmp_path) is None
    held.release()
    again = Lease.take(tmp_path)
    assert again is not None
    again.release()
    note = tmp_path / "lease.json"
    note.write_text(json.dumps({"host": "elsewhere", "process": 1}))  # a machine whose locks do not come here
    assert Lease.take(tmp_path) is None
    long_ago = time.time() - lease.PATIENCE_SECONDS - 1
    os.utime(note, (long_ago, long_ago))
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.01)
    taken = Lease.take(tmp_path)
    assert json.loads(note.read_text())["process"] == os.getpid()
    os.utime(note, (long_ago, long_ago))
    time.sleep(0.2)
    assert note.stat().st_mtime > long_ago + 30  # it shows that it lives
    taken.release()


def test_a_lease_outlives_a_disk_that_fails_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.01)
    beats = []

    def utime(path):
        beats.append(path)
        if len(beats) == 1:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr(lease.os, "utime", utime)
    taken = Lease.take(tmp_path)
    for _ in range(100):
        time.sleep(0.01)
        if len(beats) > 1:
            break
    taken.release()
    assert beats[:2] == [tmp_path / "lease.json"] * 2


def test_cma_es_comes_nearer_to_the_peak_with_each_generation(tmp_path):
    pytest.importorskip("cmaes")
    vary = {KEY: "uniform(0, 30)", "stages.score.fails_above": "loguniform(50, 500)"}
    found = run(tmp_path, vary, tuner={"name": "CMA-ES", "population": 6}, trials=60, concurrency=2)

    # Two workers draw in an order that differs from run to run; a quarter was the most in six runs.
    away = [abs(x - 3) for x in xs(found)]
    assert sum(away[-12:]) < 0.5 * sum(away[:12])
    assert b"pickle" not in (tmp_path / "out/journal.log").read_bytes()
    with pytest.raises(RecipeError, match=r"CMA-ES draws numbers, and stages\.score\.x is a choice"):
        run(tmp_path / "choice", {KEY: "[1, 2]"}, tuner="CMA-ES")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tuner": "TEP"}, r"tune\.tuner: unknown tuner 'TEP'; did you mean 'TPE'"),
        (
            {"tuner": {"name": "TPE", "n_startup": 3}},
            r"tune\.tuner\.n_startup: unknown option of TPE .* 'n_startup_trials'",
        ),
        ({"tuner": {"name": "TPE", "n_startup_trials": "x"}}, "TPE does not take this: "),
        ({"tuner": "GridSearch"}, r"GridSearch takes values in steps, but stages\.score\.x is uniform\(0, 6\)"),
        ({"assessor": "Medianstp"}, "unknown assessor 'Medianstp'; did you mean 'Medianstop'"),
        ({"assessor": {"name": "ASHA", "reduction_factor": 1}}, "ASHA does not take this: "),
        ({"assessor": "ASHA", "objectives": ["bytes"]}, "with several objectives no trial lags behind"),
        ({"tuner": "CMA-ES"}, r"tune\.tuner: CMA-ES needs (two keys|cmaes: pip)"),
        ({"budget_key": KEY}, "optuna's tuners hand out no budgets"),
        ({"engine": "nni", "constraints": ["bytes<=3k"]}, r"tune\.constraints: nni has one objective"),
    ],
)
def test_what_does_not_go_is_refused_with_its_line(settings, told, tmp_path):
    with pytest.raises(RecipeError, match=told):
        engine_of(load_tuned(str(write_recipe(tmp_path, None, settings)), (), (), {}, run_all))
    assert not (tmp_path / "out").exists()


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "nasdistill", "tune", *arguments, "--trust"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_another_worker_takes_up_the_trial_of_a_killed_one(tmp_path):
    """Real processes: the command is killed while its trial works, and a worker that joins goes on with it."""
    recipe = write_recipe(tmp_path, {KEY: "[2]"}, {"trials": 1}, seconds=2)
    first = start(tmp_path, "toy.yaml", "--out", "out")
    told = tmp_path / "out" / "trials"
    deadline = time.monotonic() + 300
    while not list(told.glob("*/told.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.kill()
    first.communicate()

    joined = start(tmp_path, "--worker", "out")
    words, _ = joined.communicate(timeout=300)
    assert joined.returncode == 0, words
    (trial,) = tune(load_tuned(str(recipe), (), (), {}, run_all), tmp_path / "out", "the same").trials

    assert (trial.state, trial.score) == ("succeeded", 89.0)
    assert len(trial.intermediate) == 3
