"""The work of one trial: the recipe at its values, in a process of its own that may be killed and started again.

It tells what it knows as lines of JSON on its standard output; its log goes to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from nasdistill.errors import Interrupted, ProcessLost, UserError
from nasdistill.interrupts import polite_stops
from nasdistill.recipes import runner
from nasdistill.recipes.constraint import COSTS
from nasdistill.recipes.lock import stage_lock
from nasdistill.report.records import ACCURACIES, Row, RunRecord
from nasdistill.training.launch import LOST, is_first_process
from nasdistill.tuning.checking import curve_of, recipe_at
from nasdistill.tuning.plan import Plan, read_plan

SHARED = ("artifacts", "work", "cache")
"""Folders that all trials of an experiment have in common, so that what several of them need is made once."""


def main(plan_folder: str, place: str, digest: str, values: str) -> int:
    """Run a trial; the arguments are those of the command line that `nasdistill.tuning.trial` starts.

    Returns:
        the exit status: 0; 2 for a mistake of the user; 128 plus the signal where one stopped it; that of one whose
        company is gone, of which it tells nothing, as the trial starts it again.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    try:
        _work(Path(plan_folder), Path(place), digest, json.loads(values))
    except Interrupted as stop:
        return 128 + stop.signal_number
    except ProcessLost as error:
        logging.warning("%s", error)
        return LOST
    except UserError as error:
        _tell({"problem": str(error)})
        return 2
    except Exception as error:
        _tell({"problem": f"{type(error).__name__}: {error}"})
        raise
    return 0


def _work(plan_folder: Path, place: Path, digest: str, values: Mapping[str, Any]) -> None:
    plan = read_plan(plan_folder)
    recipe = recipe_at(plan_folder, values)
    curve = curve_of(recipe.stages[plan.stage], plan.metric)
    folder = trial_folder(place, digest)
    if Path(plan.directory).is_dir():
        os.chdir(plan.directory)

    def listen(stage: str, seed: int, numbers: Mapping[str, float], step: int) -> None:
        # of one seed alone: with another one the scores begin anew, at whatever step of other trials
        if stage == plan.stage and seed == recipe.seeds[0] and curve is not None and curve in numbers:
            _tell({"at": [seed, step], "value": numbers[curve]})

    with polite_stops():
        if not is_first_process():
            runner.follow(recipe, folder)
            return
        with stage_lock(folder.parent, digest, "the trial"):  # the work of a killed supervisor may still be saving
            record = runner.run(recipe, folder, f"a trial of {plan.experiment}", listen)
    _tell(
        {"record": summary(record, plan) | {"folder": str(folder.relative_to(place)), "machine": socket.gethostname()}}
    )


def trial_folder(place: Path, digest: str) -> Path:
    """The folder of one trial's run below the experiment's, its artifacts shared with all other trials."""
    folder = place / "trials" / digest
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        (place / name).mkdir(exist_ok=True)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..", "..", name), target_is_directory=True)
    return folder


def summary(record: RunRecord, plan: Plan) -> dict[str, Any]:
    """What an experiment keeps of a finished trial: `score`, the mean of `scores`, test `accuracy`, `costs` and more.

    Costs are those of `COSTS` that the stage whose metric counts tells, in the mean over the seeds.

    Raises:
        UserError: the stage whose metric counts was left out.
    """
    rows = [row for row in record.rows if row.stage == plan.stage]
    if not rows:
        raise UserError(f"the stage {plan.stage!r}, whose metric counts, was left out")
    name = plan.metric.removeprefix("validation.")
    scores = [float(row.metrics["validation"][name]) for row in rows]
    return {
        "score": fmean(scores),
        "scores": scores,
        "accuracy": {kind: mean for kind in ACCURACIES if (mean := _mean_accuracy(rows, kind)) is not None},
        "parameters": rows[0].parameters,
        "seconds": record.seconds,
        "costs": {cost: fmean(told) for cost in COSTS if (told := _told(rows, cost))},
    }


def _told(rows: Sequence[Row], cost: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, cost)) is not None]


def _mean_accuracy(rows: Sequence[Row], kind: str) -> float | None:
    told = [value for row in rows if row.accuracy is not None and (value := row.accuracy.get(kind)) is not None]
    return fmean(told) if told else None


def _tell(content: Mapping[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _leave_with_supervisor() -> None:
    """Save and stop where the process that started this one, and holds the other end of its input, is gone."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_leave_with_supervisor, daemon=True).start()
    sys.exit(main(*sys.argv[1:]))
