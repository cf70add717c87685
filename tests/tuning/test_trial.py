"""One trial: what nni is told, whatever happens to the work."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from filelock import FileLock, Timeout

from nasdistill.errors import Interrupted, ProcessLost, UserError
from nasdistill.storage import read_json, read_sealed
from nasdistill.tuning import trial, worker
from nasdistill.tuning.plan import digest_of, read_plan
from nasdistill.tuning.trial import MARKER, NOTE, TrialRun, place_of
from tests.tuning.parts import KEY, FakeNni, write_plan


@pytest.fixture(autouse=True)
def signals():
    """A trial takes over the signals of its process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def run(folder, plan, x: float) -> tuple[int, FakeNni]:
    nni = FakeNni(**{KEY: x})
    return TrialRun(plan, folder / "plan", place_of(plan), plan.values(nni.values)).run(nni), nni


def stamps(folder) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "out/artifacts").glob("*/artifact.json")}


def test_a_trial_goes_on_when_the_system_kills_it_and_tells_nothing_twice(tmp_path, capfd, monkeypatch):
    """A relative path starts where the experiment was started."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "marks").mkdir()
    plan = write_plan(tmp_path, killed_once="marks")

    status, nni = run(tmp_path, plan, 1.0)

    assert status == 0
    assert "killed by signal 9; attempt 2" in capfd.readouterr().out
    # 90 - (1 - 3)^2 in the mean of two seeds, a point apart, of three steps each; those of the first seed are told
    assert [metric["default"] for metric in nni.intermediate] == [83.5, 84.5, 85.5]
    assert all(metric["values"] == {KEY: 1.0} for metric in (*nni.intermediate, *nni.final))
    (final,) = nni.final
    assert final["default"] == 86
    record = final["record"]
    assert record["accuracy"] == {"last": 73, "best": 75, "selected": 74}
    assert record["parameters"] == 7
    folder = tmp_path / "out" / record["folder"]
    assert (folder / "results.json").is_file()
    assert read_sealed(folder / NOTE) == {"values": {KEY: 1.0}, "job": None, "problem": None}

    made = stamps(tmp_path)
    assert len(made) == 4  # of two stages
    assert {read_json(tmp_path / "out/artifacts" / name / "result.json")["threads"] for name in made} == {"1"}
    _, again = run(tmp_path, plan, 1.0)

    assert stamps(tmp_path) == made
    assert again.intermediate == nni.intermediate
    assert again.final[0]["default"] == 86


def worked(folder, x: float, capsys) -> list[dict]:
    """What the work of a trial tells, in this process."""
    values = {KEY: x}
    status = worker.main(str(folder / "plan"), str(folder / "out"), digest_of(values), json.dumps(values))
    assert status == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_loss_is_told_where_it_counts_and_stages_that_trials_share_are_done_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_plan(tmp_path, tune={"metric": "validation.loss"})

    *told, end = worked(tmp_path, 1.0, capsys)

    # (1 - 3)^2 / 4 at the end
    assert [line["at"] for line in told] == [[0, step] for step in (1, 2, 3)]
    assert [line["value"] for line in told] == [3, 2, 1]
    assert end["record"]["score"] == 1
    made = stamps(tmp_path)

    worked(tmp_path, 2.0, capsys)

    both = stamps(tmp_path)
    assert made.items() <= both.items()
    assert len(both) == len(made) + 2


@pytest.mark.parametrize(
    ("statuses", "told", "problem"),
    [
        ((-9, 0), 0, None),
        ((-9, -9), 137, "killed by signal 9 in each of 2 attempts"),
        ((1, 0), 0, None),
        ((1, 1), 1, "left by one of its processes in each of 2 attempts"),
        ((143, 0), 0, None),
        ((1, 143), 143, "stopped by signal 15 in each of 2 attempts"),
    ],
)
def test_work_that_the_system_ends_is_started_again_so_often(statuses, told, problem, tmp_path, monkeypatch):
    """As a whole, or one of its processes where it has several."""
    plan = write_plan(tmp_path, tune={"attempts": 2})
    given = iter(statuses)
    monkeypatch.setattr(TrialRun, "_attempt", lambda _self, _nni: next(given))

    status, nni = run(tmp_path, plan, 1.0)

    assert list(given) == []
    assert status == told
    assert nni.final == []
    assert read_sealed(tmp_path / "out/trials" / digest_of({KEY: 1.0}) / NOTE)["problem"] == problem


def test_work_whose_company_is_gone_tells_no_problem_and_other_errors_are_told(tmp_path, monkeypatch, capsys):
    write_plan(tmp_path)

    def ended_by(error):
        def run(*_):
            raise error

        monkeypatch.setattr(worker.runner, "run", run)
        return worker.main(str(tmp_path / "plan"), str(tmp_path / "out"), "digest", json.dumps({KEY: 1.0}))

    assert ended_by(ProcessLost("process 1 of 2 ended by SIGKILL")) == 1
    assert ended_by(Interrupted(signal.SIGINT)) == 128 + signal.SIGINT
    assert capsys.readouterr().out == ""
    assert ended_by(UserError("no memory")) == 2
    assert json.loads(capsys.readouterr().out) == {"problem": "no memory"}
    with pytest.raises(ZeroDivisionError):
        ended_by(ZeroDivisionError("by zero"))
    assert json.loads(capsys.readouterr().out) == {"problem": "ZeroDivisionError: by zero"}


def test_a_mistake_fails_at_once_with_its_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("NNI_TRIAL_JOB_ID", "aBc12")
    plan = write_plan(tmp_path, fails_above=2.0)

    status, nni = run(tmp_path, plan, 5.0)

    assert status == 2
    assert nni.final == []
    note = read_sealed(tmp_path / "out/trials" / digest_of({KEY: 5.0}) / NOTE)
    assert note == {"values": {KEY: 5.0}, "job": "aBc12", "problem": "x is 5, beyond 2"}


def test_a_stop_lets_the_work_save_and_is_no_failure(tmp_path):
    plan = write_plan(tmp_path, seconds=30.0)

    class Stopping(FakeNni):
        def report_intermediate_result(self, metric):
            super().report_intermediate_result(metric)
            asked.stop(signal.SIGINT)

    nni = Stopping(**{KEY: 1.0})
    asked = TrialRun(plan, tmp_path / "plan", place_of(plan), {KEY: 1.0})
    status = asked.run(nni)

    assert status == -signal.SIGINT
    assert len(nni.intermediate) == 1
    assert nni.final == []


@pytest.mark.parametrize("status", [0, 2, -signal.SIGINT, -signal.SIGTERM])
def test_a_trial_that_nni_stopped_ends_by_the_signal(status):
    """nni takes any exit status but 0 for a failure."""
    code = f"from nasdistill.tuning.trial import leave; leave({int(status)})"
    assert subprocess.run([sys.executable, "-c", code]).returncode == status


def test_work_ends_when_nobody_hears_it(tmp_path, monkeypatch):
    plan = write_plan(tmp_path, seconds=30.0)
    started = []

    class Remembered(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    class Gone(FakeNni):
        def report_intermediate_result(self, metric):
            raise ConnectionError("the manager is gone")

    monkeypatch.setattr(subprocess, "Popen", Remembered)
    with pytest.raises(ConnectionError):
        TrialRun(plan, tmp_path / "plan", place_of(plan), {KEY: 1.0}).run(Gone())

    assert [work.returncode for work in started] == [128 + signal.SIGTERM]


def test_a_trial_stops_when_the_manager_that_started_it_is_gone(tmp_path, monkeypatch):
    plan = write_plan(tmp_path)
    run = TrialRun(plan, tmp_path / "plan", place_of(plan), {KEY: 1.0})
    threading.Timer(0.1, monkeypatch.setattr, (os, "getppid", lambda: 1)).start()

    trial._stop_with_manager(run)

    assert run.asked == signal.SIGTERM


def test_trials_with_equal_values_run_one_after_the_other(tmp_path, monkeypatch):
    nni = pytest.importorskip("nni")
    write_plan(tmp_path)
    monkeypatch.setattr(nni, "get_next_parameter", lambda: {KEY: 2.0})
    monkeypatch.setattr(trial, "POLL_SECONDS", 0.01)
    begun = []

    def begin(self, _nni):
        with pytest.raises(Timeout):
            FileLock(self.file.parent / "trial.lock").acquire(timeout=0)
        begun.append((self.values, self.place))
        return 0

    monkeypatch.setattr(TrialRun, "run", begin)
    folder = tmp_path / "out" / "trials" / digest_of({KEY: 2.0})
    folder.mkdir(parents=True)
    other = FileLock(folder / "trial.lock")

    with other:
        monkeypatch.setattr(trial, "_deserted", other.release)  # the other one ends while this one waits
        assert trial.main(tmp_path / "plan") == 0
    assert begun == [({KEY: 2.0}, tmp_path / "out")]
    with other:
        monkeypatch.setattr(trial, "_deserted", lambda: True)
        assert trial.main(tmp_path / "plan") == 128 + signal.SIGTERM
    assert len(begun) == 1


def test_a_machine_that_does_not_see_the_experiment_works_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    plan = write_plan(tmp_path)
    assert place_of(plan) == tmp_path / "out"

    (tmp_path / "out" / MARKER).write_text("another experiment")
    assert place_of(plan) == tmp_path / "home" / "elsewhere"

    shutil.rmtree(tmp_path / "out")
    assert place_of(plan) == tmp_path / "home" / "elsewhere"


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = write_plan(tmp_path, vary={KEY: "choice(1, 2.5)"})

    assert read_plan(tmp_path / "plan") == plan
    assert plan.values({KEY: 2.5}) == {KEY: 2.5}


def test_the_budget_that_a_tuner_hands_out_is_a_whole_number_for_its_key(tmp_path):
    advisor = pytest.importorskip("nni.algorithms.hpo.hyperband_advisor")
    plan = write_plan(tmp_path, vary={"stages.score.seconds": "uniform(0, 1)"}, tune={"budget_key": KEY})

    values = plan.values({"stages.score.seconds": 0.25, advisor._KEY: 2.9999})

    assert values == {"stages.score.seconds": 0.25, KEY: 3}
    assert isinstance(values[KEY], int)
