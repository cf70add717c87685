"""A recipe whose stages cost nothing, what nni keeps of trials, and an nni that only writes down what it is told."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasdistill.recipes.source import dump
from nasdistill.recipes.trust import run_all
from nasdistill.tuning.checking import load_tuned
from nasdistill.tuning.manager import Job
from nasdistill.tuning.plan import Plan
from nasdistill.tuning.trial import MARKER

PLUGIN = Path(__file__).parent / "parabola.py"
KEY = "stages.score.x"


def write_recipe(folder: Path, vary: Mapping[str, Any] | None = None, tune: Mapping[str, Any] | None = None, **options):
    """A recipe file whose stage `score` is a parabola of `x`, after one that all trials share."""
    data = {
        "name": "toy",
        "seeds": [0, 1],
        "plugins": [PLUGIN.name],
        "stages": [
            {"name": "shared", "uses": "parabola", "with": {"x": -4.0}},
            {"name": "score", "uses": "parabola", "with": {"x": 0.0, **options}},
        ],
        "tune": {"vary": dict(vary or {KEY: "uniform(0, 6)"}), **(tune or {})},
    }
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PLUGIN, folder)
    path = folder / "toy.yaml"
    path.write_text(dump(data))
    return path


def write_plan(folder: Path, **options: Any) -> Plan:
    """The plan of an experiment in `folder`, as `tune` writes it."""
    tuned = load_tuned(str(write_recipe(folder, **options)), (), (), {}, run_all)
    plan = Plan(
        experiment="toyexperiment",
        out=str(folder / "out"),
        remote="elsewhere",
        directory=str(folder),
        vary=tuned.settings.vary,
        stage=tuned.stage,
        metric=tuned.settings.metric,
        budget_key=tuned.settings.budget_key,
        attempts=tuned.settings.attempts,
        threads=1,
    )
    plan.write(folder / "plan", tuned.recipe.data, tuned.plugins, tuned.files)
    (folder / "out").mkdir()
    (folder / "out" / MARKER).write_text(plan.experiment)
    return plan


def told(x: float, score: float, sequence: int = 0, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A metric as nni keeps it: an intermediate result, or the final one where there is a record."""
    data: dict[str, Any] = {"default": score, "values": {KEY: x}}
    kind = "PERIODICAL" if record is None else "FINAL"
    return {"type": kind, "sequence": sequence, "data": data if record is None else data | {"record": record}}


def job(name: str, status: str, started: float | None, noted: float, *metrics: Mapping[str, Any]) -> Job:
    """A trial as nni sees it, which took five seconds."""
    return Job(name, status, started, started + 5.0 if started else None, {KEY: noted}, f"/logs/{name}", metrics)


def record(score: float, folder: str = "trials/a") -> dict[str, Any]:
    """What a trial tells at its end."""
    return {"score": score, "accuracy": {"last": 80.0}, "parameters": 7, "seconds": 3.0, "folder": folder}


class FakeNni:
    """What a trial calls of nni."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.intermediate: list[dict[str, Any]] = []
        self.final: list[dict[str, Any]] = []

    def get_next_parameter(self) -> dict[str, Any]:
        return self.values

    def report_intermediate_result(self, metric: dict[str, Any]) -> None:
        self.intermediate.append(metric)

    def report_final_result(self, metric: dict[str, Any]) -> None:
        self.final.append(metric)
