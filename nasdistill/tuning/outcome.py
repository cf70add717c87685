"""From what nni knows of its trials to what came out of an experiment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasdistill.errors import DamagedFile
from nasdistill.ledger import Ledger
from nasdistill.recipes.source import dump
from nasdistill.report.experiments import State, Trial
from nasdistill.storage import read_sealed
from nasdistill.tuning.checking import recipe_at
from nasdistill.tuning.manager import Job
from nasdistill.tuning.plan import Plan, digest_of
from nasdistill.tuning.trial import NOTE

STATES: Mapping[str, State] = {
    "WAITING": "waiting",
    "ADD_RESUMED": "waiting",  # goes on under another manager
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "EARLY_STOPPED": "stopped early",
    "USER_CANCELED": "stopped early",
    "SYS_CANCELED": "stopped early",
}
"""nni's words; all others mean a failure."""
BEST = "best.yaml"


def trials_of(jobs: Sequence[Job], plan: Plan, out: Path) -> tuple[Trial, ...]:
    """The trials of an experiment in the order in which they first started, equal values being one trial.

    Values are those that the trial itself told: nni may note for one trial what another was given.
    """
    notes = _notes(out)
    found: dict[str, Trial] = {}
    for job in jobs:
        note = notes.get(job.id, {})
        values = _values(job, note, plan)
        digest = digest_of(values)
        trial = _trial(job, values, note, found[digest].number if digest in found else len(found))
        if digest not in found or _worth(trial) >= _worth(found[digest]):
            found[digest] = trial
    return tuple(found.values())


def best_of(trials: Sequence[Trial], higher_is_better: bool) -> int | None:
    """The number of the best trial that succeeded, of equals the first."""
    done = [trial for trial in trials if trial.state == "succeeded" and trial.score is not None]
    sign = 1 if higher_is_better else -1
    return max(done, key=lambda trial: sign * (trial.score or 0.0)).number if done else None


def write_best(folder: Path, out: Path, trial: Trial, metric: str) -> Path:
    """Write the recipe at the values of the best trial, ready to run.

    Args:
        folder: of the plan, below `out`.
    """
    recipe = recipe_at(folder, trial.values)
    data = {key: value for key, value in recipe.data.items() if key != "tune"}
    if "plugins" in data:  # those in the plan move with the experiment's folder
        data["plugins"] = [os.path.relpath(name, out) if name.endswith(".py") else name for name in data["plugins"]]
    head = f"# The best of the trials of {recipe.settings.name}: trial {trial.number}, {metric}: {trial.score:.6g}\n"
    if trial.folder is not None:
        head += f"# Its run, with all that it made: {trial.folder}\n"
    Ledger(out).write(BEST, head + dump(data))
    return out / BEST


def _notes(out: Path) -> dict[str, Mapping[str, Any]]:
    """What trials on this machine wrote down, by nni's name of the trial."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in (out / "trials").glob(f"*/{NOTE}"):
        try:
            note = read_sealed(path)
            found[note["job"]] = note
        except (OSError, DamagedFile, KeyError, TypeError):
            continue
    return found


def _values(job: Job, note: Mapping[str, Any], plan: Plan) -> Mapping[str, Any]:
    told = [metric["data"]["values"] for metric in job.metrics if isinstance(metric["data"], Mapping)]
    if told:
        values: Mapping[str, Any] = told[-1]
        return values
    return note["values"] if "values" in note else plan.values(job.suggested)


def _trial(job: Job, values: Mapping[str, Any], note: Mapping[str, Any], number: int) -> Trial:
    mine = [metric for metric in job.metrics if metric["data"]["values"] == values]
    told = [float(metric["data"]["default"]) for metric in mine if metric["type"] == "PERIODICAL"]
    # A trial that started again tells all from the beginning.
    restarts = [at for at, metric in enumerate(mine) if metric["type"] == "PERIODICAL" and metric.get("sequence") == 0]
    if len(restarts) > 1:
        told = [float(metric["data"]["default"]) for metric in mine[restarts[-1] :] if metric["type"] == "PERIODICAL"]
    final = [metric["data"]["record"] for metric in mine if metric["type"] == "FINAL"]
    record: Mapping[str, Any] = final[-1] if final else {}
    state = STATES.get(job.status, "failed")
    seconds = job.ended - job.started if job.started is not None and job.ended is not None else None
    score = record.get("score", told[-1] if told and state == "stopped early" else None)
    problem = None
    if state == "failed":
        problem = note.get("problem") or f"nni says {job.status}; its output is in {job.log}"
    return Trial(
        number=number,
        values=values,
        state=state,
        score=score if score is not None and math.isfinite(score) else None,
        intermediate=tuple(value for value in told if math.isfinite(value)),
        accuracy=record.get("accuracy", {}),
        parameters=record.get("parameters"),
        seconds=record.get("seconds", seconds),
        folder=record.get("folder"),
        problem=problem,
    )


def _worth(trial: Trial) -> int:
    """Which of two trials with equal values to show."""
    return ("failed", "waiting", "running", "stopped early", "succeeded").index(trial.state)
