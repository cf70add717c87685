"""One trial: what nni is told, whatever happens to the work."""

import os
import shutil
import signal

import pytest

from nasdistill.storage import read_json
from nasdistill.tuning.plan import digest_of, read_plan
from nasdistill.tuning.trial import MARKER, NOTE, Trial, place_of
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
    return Trial(plan, folder / "plan", place_of(plan), plan.values(nni.values)).run(nni), nni


def test_a_trial_goes_on_when_the_system_kills_it_and_tells_nothing_twice(tmp_path, capfd):
    plan = write_plan(tmp_path, killed_once=str(tmp_path))

    status, nni = run(tmp_path, plan, 1.0)

    assert status == 0
    assert "killed by signal 9; attempt 2" in capfd.readouterr().out
    score = 90 - (1.0 - 3.0) ** 2
    # two seeds, three steps each
    assert [metric["default"] for metric in nni.intermediate] == [score - 2, score - 1, score] * 2
    assert all(metric["values"] == {KEY: 1.0} for metric in (*nni.intermediate, *nni.final))
    (final,) = nni.final
    assert final["default"] == score
    record = final["record"]
    assert record["accuracy"] == {"last": score - 1, "best": score, "selected": score - 0.5}
    assert record["parameters"] == 7
    folder = tmp_path / "out" / record["folder"]
    assert (folder / "results.json").is_file()
    assert read_json(folder / NOTE) == {"values": {KEY: 1.0}, "job": None, "problem": None}

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/artifacts").glob("*/artifact.json")}
    assert len(made) == 2
    _, again = run(tmp_path, plan, 1.0)

    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out/artifacts").glob("*/artifact.json")} == made
    assert again.intermediate == nni.intermediate
    assert again.final[0]["default"] == score


def test_work_that_is_killed_each_time_fails_with_its_reason(tmp_path):
    plan = write_plan(tmp_path, killed_always=True, tune={"attempts": 2})

    status, nni = run(tmp_path, plan, 1.0)

    assert status == 128 + signal.SIGKILL
    assert nni.final == []
    note = read_json(tmp_path / "out/trials" / digest_of({KEY: 1.0}) / NOTE)
    assert note["problem"] == "killed by signal 9 in each of 2 attempts"


def test_a_mistake_fails_at_once_with_its_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("NNI_TRIAL_JOB_ID", "aBc12")
    plan = write_plan(tmp_path, fails_above=2.0)

    status, nni = run(tmp_path, plan, 5.0)

    assert status == 2
    assert nni.final == []
    note = read_json(tmp_path / "out/trials" / digest_of({KEY: 5.0}) / NOTE)
    assert note == {"values": {KEY: 5.0}, "job": "aBc12", "problem": "x is 5, beyond 2"}


def test_a_stop_lets_the_work_save_and_is_no_failure(tmp_path):
    plan = write_plan(tmp_path, seconds=30.0)

    class Stopping(FakeNni):
        def report_intermediate_result(self, metric):
            super().report_intermediate_result(metric)
            os.kill(os.getpid(), signal.SIGINT)  # as nni stops a trial

    nni = Stopping(**{KEY: 1.0})
    status = Trial(plan, tmp_path / "plan", place_of(plan), {KEY: 1.0}).run(nni)

    assert status == 128 + signal.SIGTERM
    assert len(nni.intermediate) == 1
    assert nni.final == []


def test_work_ends_when_nobody_hears_it(tmp_path):
    plan = write_plan(tmp_path, seconds=30.0)

    class Gone(FakeNni):
        def report_intermediate_result(self, metric):
            raise ConnectionError("the manager is gone")

    with pytest.raises(ConnectionError):
        Trial(plan, tmp_path / "plan", place_of(plan), {KEY: 1.0}).run(Gone())


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
