"""From what an engine knows of its trials to what came out of an experiment."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

from nasdistill.errors import DamagedFile
from nasdistill.ledger import Ledger
from nasdistill.paths import settled
from nasdistill.recipes.overrides import assign
from nasdistill.recipes.source import dump, read_source
from nasdistill.report.experiments import Experiment, State, Trial
from nasdistill.storage import read_sealed
from nasdistill.tuning.manager import Job
from nasdistill.tuning.plan import BY, PLAN_FOLDER, RECIPE, Plan, digest_of
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
FINISHED: tuple[State, ...] = ("succeeded", "stopped early", "failed")


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


def trial_of(
    record: Mapping[str, Any], told: Sequence[float], seconds: float | None, *, state: State, **known: Any
) -> Trial:
    """A trial as the experiment shows it.

    Args:
        record: what it came to, see `nasdistill.tuning.worker.summary`; empty where it did not end.
        told: the scores on its way.
        seconds: that it took, as the engine measured them.
        known: other fields of it.
    """
    score = record.get("score", told[-1] if told and state == "stopped early" else None)
    return Trial(
        state=state,
        score=score if score is not None and math.isfinite(score) else None,
        scores=tuple(record.get("scores", ())),
        intermediate=tuple(value for value in told if math.isfinite(value)),
        accuracy=record.get("accuracy", {}),
        parameters=record.get("parameters"),
        seconds=record.get("seconds", seconds),
        folder=record.get("folder"),
        **known,
    )


def best_of(trials: Sequence[Trial], higher_is_better: bool) -> int | None:
    """The number of the best trial that succeeded and keeps all limits, of equals the first."""
    sign = 1 if higher_is_better else -1
    return max(_counting(trials), key=lambda trial: sign * (trial.score or 0.0)).number if _counting(trials) else None


def front_of(trials: Sequence[Trial], higher_is_better: bool, objectives: Sequence[str]) -> tuple[int, ...]:
    """The numbers of those that no other is as good as in score and objectives and better in one, best scores first.

    Nothing without objectives beside the score. Of trials that are equal in all of it the first stands for all.
    """
    sign = -1 if higher_is_better else 1

    def lows(trial: Trial) -> tuple[float, ...]:
        return (sign * (trial.score or 0.0), *(trial.costs[objective] for objective in objectives))

    places = {lows(trial): trial.number for trial in reversed(_counting(trials)) if objectives}
    beaten = {
        place for place, other in product(places, places) if place != other and all(map(operator.ge, place, other))
    }
    return tuple(places[place] for place in sorted(places.keys() - beaten))


def _counting(trials: Sequence[Trial]) -> list[Trial]:
    return [each for each in trials if each.state == "succeeded" and each.score is not None and not each.violated]


def write_best(experiment: Experiment, out: Path) -> None:
    """Write the recipe at the values of the best trial, ready to run; with several objectives of each on the front.

    That of trial 7 on the front is `best-7.yaml`. Recipes of trials that other ones have beaten since are removed.
    """
    names = {f"best-{number}.yaml": number for number in experiment.front}
    if experiment.best is not None and not names:
        names = {BEST: experiment.best}
    trials = {trial.number: trial for trial in experiment.trials}
    ledger = Ledger(out)
    for name in [name for name in ledger.hashes if fnmatch(name, "best*.yaml") and name not in names]:
        ledger.remove(name)
    for name, number in names.items():
        ledger.write(name, _recipe_text(out, trials[number], experiment.metric))


def _recipe_text(out: Path, trial: Trial, metric: str) -> str:
    folder = out / PLAN_FOLDER
    source = read_source(folder / RECIPE)  # it is not checked anew: the trial has run
    for key, value in trial.values.items():
        assign(source, key, value, f"{BY} {key}")
    # neither a sweep nor what others report of it is of these values
    data = {key: value for key, value in source.data.items() if key not in ("tune", "sweep", "published")}
    if "plugins" in data:  # those in the plan move with the experiment's folder
        data["plugins"] = [
            os.path.relpath(folder / name, out) if name.endswith(".py") else name for name in data["plugins"]
        ]
    head = f"# The best of the trials of {data['name']}: trial {trial.number}, {metric}: {trial.score:.6g}\n"
    if trial.folder is not None:
        head += f"# Its run, with all that it made: {trial.folder}\n"
    return head + dump(settled(data))


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
    problem = None
    if state == "failed":
        problem = note.get("problem") or f"nni says {job.status}; its output is in {job.log}"
    return trial_of(record, told, seconds, number=number, values=values, state=state, problem=problem)


def _worth(trial: Trial) -> int:
    """Which of two trials with equal values to show."""
    return ("failed", "waiting", "running", "stopped early", "succeeded").index(trial.state)
