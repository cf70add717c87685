"""`nasdistill tune`: from the command line to an experiment's settings, and what is printed of its outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nasdistill.report.experiments import Experiment
from nasdistill.tuning import experiment
from tests.cli.conftest import Command
from tests.report.fake_experiments import fake_experiment

RECIPE = """\
name: echoes
data: digits
seed: 4
stages:
  - {name: net, uses: train, with: {model: mlp-8, epochs: 1}}
tune: {trials: 9, tuner: Random, vary: {stages.net.epochs: "[1, 2]"}}
"""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """What the command calls the experiment with, which then ends with `outcome`."""
    (tmp_path / "echoes.yaml").write_text(RECIPE)
    found = SimpleNamespace(outcome=fake_experiment(5, keys=1))

    def tune(tuned: Any, out: Path, command: str, service: Any, portal: Any) -> Experiment:
        vars(found).update(tuned=tuned, out=out, command=command, service=service, portal=portal)
        outcome: Experiment = found.outcome
        return outcome

    monkeypatch.setattr(experiment, "tune", tune)
    return found


def test_the_recipe_decides_what_no_option_does(nasdistill: Command, called: SimpleNamespace) -> None:
    done = nasdistill("tune", "echoes.yaml")
    assert done.returncode == 0, done.stderr
    settings = called.tuned.settings
    assert {key: str(varied) for key, varied in settings.vary.items()} == {"stages.net.epochs": "choice(1, 2)"}
    assert (settings.trials, settings.tuner, settings.metric) == (9, "Random", "validation.score")
    assert (called.tuned.stage, called.tuned.recipe.seeds) == ("net", (4,))
    assert called.out == Path("runs/echoes-tune")
    assert (settings.engine, called.service, called.portal) == ("optuna", None, None)


def test_options_come_first(nasdistill: Command, called: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "ssh.yaml").write_text("trainingService: {platform: remote, machineList: []}\ntrialFolder: there\n")
    vary = "stages.net.optimizer.lr=loguniform(1e-3, 0.1)"
    done = nasdistill(
        *("tune", "echoes.yaml", "stages.net.batch_size=32", "--vary", vary, "--trials", "3", "--concurrency", "2"),
        *("--engine", "nni"),
        *("--tuner", "{name: TPE, seed: 8}", "--assessor", "Medianstop", "--metric", "validation.loss"),
        *("--seeds", "1,2", "--accelerator", "cpu", "--duration", "8h", "--out", "there"),
        *("--service", "ssh.yaml", "--portal", "0.0.0.0", "--port", "8081"),  # noqa: S104
    )
    assert done.returncode == 0, done.stderr
    recipe, settings = called.tuned.recipe, called.tuned.settings
    assert [*settings.vary] == ["stages.net.epochs", "stages.net.optimizer.lr"]
    assert settings.vary["stages.net.optimizer.lr"].arguments == (0.001, 0.1)
    assert (settings.trials, settings.concurrency, settings.duration) == (3, 2, "8h")
    assert (settings.tuner, settings.assessor) == ({"name": "TPE", "seed": 8}, "Medianstop")
    assert settings.metric == "validation.loss"
    assert settings.engine == "nni"
    assert (recipe.seeds, recipe.settings.engine.accelerator) == ((1, 2), "cpu")
    assert recipe.stages["net"].batch_size == 32
    assert called.out == Path("there")
    assert (called.service.platform, called.service.folder) == ("remote", "there")
    assert (called.portal.host, called.portal.port) == ("0.0.0.0", 8081)  # noqa: S104
    assert called.command.startswith(f"nasdistill tune echoes.yaml stages.net.batch_size=32 --vary '{vary}' --trials 3")


def test_limits_and_objectives_are_given_one_by_one(nasdistill: Command, called: SimpleNamespace) -> None:
    limits = ("--constraint", "parameters<=300k", "--constraint", "bytes<=1MB")
    assert nasdistill("tune", "echoes.yaml", "--objective", "latency_ms", *limits).returncode == 0
    settings = called.tuned.settings
    assert (settings.objectives, settings.constraints) == (("latency_ms",), ("parameters<=300k", "bytes<=1MB"))


def test_the_table_the_best_recipe_and_the_report_are_told(nasdistill: Command, called: SimpleNamespace) -> None:
    told = nasdistill("tune", "echoes.yaml").stdout
    assert "2, best" in told
    assert "4, stopped early" in told
    assert "training diverged" in told
    assert "best: nasdistill run runs/echoes-tune/best.yaml" in told
    assert "report: runs/echoes-tune/report.html" in told

    called.outcome = replace(called.outcome, best=None)
    told = nasdistill("tune", "echoes.yaml").stdout
    assert "best" not in told.replace("accuracy %, best", "")


def test_a_dry_run_checks_all_and_runs_nothing(nasdistill: Command, called: SimpleNamespace, tmp_path: Path) -> None:
    lines = nasdistill("tune", "echoes.yaml", "--dry-run", "--trials", "3").stdout.splitlines()
    assert lines[0] == (
        "echoes, in runs/echoes-tune: up to 3 trials, 1 at a time, tuner Random; validation score of net counts"
    )
    assert [line.split("  ")[0].strip() for line in lines if "stages." in line] == ["stages.net.epochs"]
    assert "choice(1, 2)" in "".join(lines)
    planned = nasdistill(
        "tune", "echoes.yaml", "--dry-run", "--vary", "stages.net.model=[mlp-8, 'torchvision:vit_b_16']"
    )
    assert planned.returncode == 2
    assert "stages.net.model: torchvision:vit_b_16 does not exist for images of 1x8x8" in planned.stderr
    wrong = nasdistill("tune", "echoes.yaml", "--dry-run", "--tuner", "{name: TPE, n_startup_trials: abc}")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "tune.tuner: TPE does not take this: " in wrong.stderr
    assert not hasattr(called, "tuned")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--vary", "stages.net.epochs"], "--vary 'stages.net.epochs': write it as key.path=distribution"),
        (["--vary", "stages.net.lr=[1]", "--vary", "stages.net.lr=[2]"], "the key 'stages.net.lr' varies twice"),
        (["--vary", "stages.net.epoch=[1, 2]"], "did you mean 'epochs'"),
        (["--vary", "stages.net.epochs=unifrm(1, 2)"], "unknown distribution 'unifrm'; did you mean 'uniform'"),
        (["--metric", "accuracy.best"], "--metric"),
        (["--trials", "0"], "greater than 0"),
        (["--service", "nowhere.yaml"], "nowhere.yaml"),
        (["--constraint", "parameters<300k"], "is no constraint: write it as parameters<=300k"),
        (["--constraint", "latency<=3"], "unknown cost 'latency'; did you mean 'latency_ms'"),
        (["--objective", "size"], "parameters"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    arguments: list[str], sentence: str, nasdistill: Command, called: SimpleNamespace, tmp_path: Path
) -> None:
    done = nasdistill("tune", "echoes.yaml", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not hasattr(called, "tuned")
    assert not (tmp_path / "runs").exists()
