"""Whole experiments with nni's real manager, in a home of their own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nasdistill.report.experiments import load_experiment
from tests.tuning.parts import KEY, write_recipe

pytest.importorskip("nni")
psutil = pytest.importorskip("psutil")

ADDRESS = "198.51.100.77"
"""Stands for what a service's file may hold and nobody else may read."""


def start(folder, *arguments):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "nasdistill",
            "tune",
            str(folder / "toy.yaml"),
            "--out",
            str(folder / "out"),
            "--trust",
            *arguments,
        ],
        env={**os.environ, "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(what, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing came of {what}")


def trials_at_work(folder):
    return list((folder / "out" / "trials").glob("*/told.json"))


def manager_of(folder):
    return json.loads((folder / "out" / "tune.json").read_text())["manager"]


def addresses(process):
    """What the portal's process listens on."""
    return {link.laddr.ip for link in psutil.Process(process).net_connections("tcp") if link.status == "LISTEN"}


@pytest.mark.timeout(900)
def test_an_experiment_survives_the_death_of_its_manager_and_of_itself_and_ends_with_the_best_recipe(tmp_path):
    settings = {"engine": "nni", "tuner": "TPE", "trials": 2, "concurrency": 2}
    write_recipe(tmp_path, tune=settings, seconds=2)
    service = tmp_path / "here.yaml"
    service.write_text(f"trainingService: {{platform: local}}\nnniManagerIp: {ADDRESS}\n")

    # the manager dies while trials work: another one takes over
    first = start(tmp_path, "--service", str(service))
    wait_for(lambda: trials_at_work(tmp_path))
    killed = manager_of(tmp_path)["process"]
    assert addresses(killed) == {"127.0.0.1"}
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: manager_of(tmp_path)["process"] != killed or first.poll())

    # the command is stopped: nothing of it goes on, and the next call does
    first.send_signal(signal.SIGTERM)
    told, _ = first.communicate(timeout=240)
    assert first.returncode == 128 + signal.SIGTERM
    assert "starting it again, no trial is lost" in told
    assert "the same command goes on from there" in told
    process = manager_of(tmp_path)["process"]
    wait_for(lambda: not psutil.pid_exists(process), 30)  # it was told to stop, and may still be stopping

    again = start(tmp_path, "--service", str(service))
    told, _ = again.communicate(timeout=300)
    assert again.returncode == 0, told

    experiment = load_experiment(tmp_path / "out")
    assert [trial.state for trial in experiment.trials] == ["succeeded"] * 2
    for trial in experiment.trials:
        assert trial.score == 90 - (trial.values[KEY] - 3) ** 2
        assert len(trial.intermediate) == 3
        assert (tmp_path / "out" / trial.folder / "report.html").is_file()
    best = max(experiment.trials, key=lambda trial: trial.score)
    assert experiment.best == best.number
    assert f"x: {best.values[KEY]}" in (tmp_path / "out" / "best.yaml").read_text()

    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(ADDRESS.encode() in path.read_bytes() for path in written)
    kept = tmp_path / "nni-experiments" / experiment_name(tmp_path)
    assert kept.stat().st_mode & 0o077 == 0

    # with nothing left to do, nothing is started
    last = start(tmp_path, "--service", str(service))
    told, _ = last.communicate(timeout=240)
    assert last.returncode == 0
    assert "portal" not in told

    # with more trials it goes on, and its tuner does not begin its draws again
    write_recipe(tmp_path, tune={**settings, "trials": 3}, seconds=2)
    told, _ = start(tmp_path, "--service", str(service)).communicate(timeout=300)
    assert "up to 3 trials, 2 of them done" in told
    assert told.count("succeeded: ") == 1  # the new one alone
    later = load_experiment(tmp_path / "out")
    assert [trial.values for trial in later.trials[:2]] == [trial.values for trial in experiment.trials]
    assert len({trial.values[KEY] for trial in later.trials}) == 3


@pytest.mark.timeout(900)
def test_an_assessor_stops_a_trial_that_lags_behind(tmp_path):
    tune = {"engine": "nni", "tuner": "GridSearch", "trials": 2, "assessor": {"name": "Medianstop", "start_step": 1}}
    write_recipe(tmp_path, {KEY: "choice(3, 9)"}, tune, seconds=2)

    told, _ = start(tmp_path).communicate(timeout=300)

    first, second = load_experiment(tmp_path / "out").trials
    assert (first.state, first.values[KEY]) == ("succeeded", 3), told
    assert (second.state, second.values[KEY]) == ("stopped early", 9), told
    assert 0 < len(second.intermediate) < len(first.intermediate)


def experiment_name(folder):
    return json.loads((folder / "out" / "tune.json").read_text())["experiment"]
