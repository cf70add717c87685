"""Experiments that never happened: trials whose scores follow a formula of their values."""

from __future__ import annotations

import math
import random
from typing import Any

from nasdistill.report.experiments import Experiment, Scale, Trial

BETA, EPOCHS, OPTIMISER = "stages.student.objectives.1.beta", "stages.student.epochs", "stages.student.optimiser"
VARIED: dict[str, tuple[str, Scale]] = {
    BETA: ("loguniform(10, 3000)", "log"),
    "stages.student.objectives.0.temperature": ("uniform(1, 20)", "linear"),
    EPOCHS: ("randint(3, 30)", "linear"),
    OPTIMISER: ("choice({name: sgd, momentum: 0.9}, {name: adam})", "choice"),
    "stages.student.augment": ("choice([], [flip], [flip, crop])", "choice"),
    "stages.teacher.model": ("choice(wrn-16-1, wrn-40-2-with-a-name-that-is-too-long-for-any-axis)", "choice"),
}


def draw(random_numbers: random.Random) -> dict[str, Any]:
    return {
        BETA: 10 * 300 ** random_numbers.random(),
        "stages.student.objectives.0.temperature": random_numbers.uniform(1, 20),
        EPOCHS: random_numbers.randrange(3, 30),
        OPTIMISER: random_numbers.choice([{"name": "sgd", "momentum": 0.9}, {"name": "adam"}]),
        "stages.student.augment": random_numbers.choice([[], ["flip"], ["flip", "crop"]]),
        "stages.teacher.model": random_numbers.choice(
            ["wrn-16-1", "wrn-40-2-with-a-name-that-is-too-long-for-any-axis"]
        ),
    }


def score_of(values: dict[str, Any]) -> float:
    """Highest at a beta of 300; the epochs matter a little, the rest not at all."""
    return 90 - 3 * (math.log10(values[BETA]) - math.log10(300)) ** 2 + 0.02 * values.get(EPOCHS, 0)


def fake_experiment(count: int, keys: int = 6, troubles: bool = True, name: str = "beta") -> Experiment:
    """So many trials; with `troubles` every fifth fails from the fourth on, every fifth is stopped from the fifth on.

    Args:
        keys: how many are varied.
    """
    random_numbers = random.Random(0)  # noqa: S311
    varied = dict(list(VARIED.items())[:keys])
    trials = []
    for number in range(count):
        values = {key: value for key, value in draw(random_numbers).items() if key in varied}
        folder = f"trials/{number}"
        final = score_of(values)
        curve = tuple(final - 40 * math.exp(-step / 2) for step in range(1, 9))
        if troubles and number % 5 == 3:
            problem = "training diverged: the loss of stage 'student', seed 0 is nan after step 17 " * 3
            trials.append(Trial(number, values, "failed", None, curve[:2], folder=folder, problem=problem))
        elif troubles and number % 5 == 4:
            trials.append(Trial(number, values, "stopped early", curve[2], curve[:3], seconds=31.0, folder=folder))
        else:
            accuracy = {"last": final - 1.5, "best": final - 0.5, "selected": final - 1.0}
            trials.append(
                Trial(number, values, "succeeded", final, (*curve, final), accuracy, 52_334, 84.2, folder)
            )  # fmt: skip
    succeeded = [trial for trial in trials if trial.state == "succeeded"]
    best = max(succeeded, key=lambda trial: trial.score or 0).number if succeeded else None
    return Experiment(
        name=name,
        recipe="name: beta\nseed: 0\n",
        command="nasdistill tune beta --vary 'stages.student.objectives.1.beta=loguniform(10, 3000)'",
        metric="validation score of student, %",
        higher_is_better=True,
        varied={key: written for key, (written, _) in varied.items()},
        scales={key: scale for key, (_, scale) in varied.items()},
        tuner="TPE, seed 0",
        assessor="median stop",
        trials=tuple(trials),
        best=best,
        versions={"nasdistill": "0.1.0", "nni": "3.0"},
        device="cpu, 2 cores",
        started="2026-11-21T01:20:00+00:00",
        seconds=4212.0,
    )
