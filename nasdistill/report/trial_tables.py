"""The trials of an experiment as tables: for people best first, for programs with every number as it is."""

from __future__ import annotations

from typing import Any

from nasdistill.report.experiments import Experiment, State, Trial
from nasdistill.report.points import value_in_words
from nasdistill.report.tables import SHOWN, Cell, Table, raw
from nasdistill.words import NONE, duration, whole

BEST = "best"
ORDER: tuple[State, ...] = ("succeeded", "stopped early", "running", "waiting", "failed")


def ranked(experiment: Experiment) -> list[Trial]:
    """The best trial or the front, the others that succeeded by their scores, those that were stopped early or have no
    score, and at last those that miss a limit."""
    sign = -1 if experiment.higher_is_better else 1

    def place(trial: Trial) -> tuple[bool, bool, int, bool, float, int]:
        of_score = (trial.score is None, 0.0 if trial.score is None else sign * trial.score)
        first = trial.number not in (experiment.front or (experiment.best,))
        return first, bool(trial.violated), ORDER.index(trial.state), *of_score, trial.number

    return sorted(experiment.trials, key=place)


def trials(experiment: Experiment) -> Table:
    """A line per trial: its values, its score, its accuracies and costs where any trial has them."""
    kinds = [kind for kind in SHOWN if any(kind in trial.accuracy for trial in experiment.trials)]
    sized = any(trial.parameters is not None for trial in experiment.trials)
    costs = counted(experiment)
    header = (
        "trial",
        "score",
        *experiment.varied,
        *(f"accuracy %, {kind}" for kind in kinds),
        *(["parameters"] if sized else []),
        *costs,
        "time",
    )
    rows = tuple(
        (
            Cell(_name(trial, experiment)),
            Cell(number(trial.score)),
            *(Cell(value_shown(trial.values[key]) if key in trial.values else NONE) for key in experiment.varied),
            *(Cell(f"{trial.accuracy[kind]:.2f}" if kind in trial.accuracy else NONE) for kind in kinds),
            *([Cell(whole(trial.parameters))] if sized else []),
            *(Cell(value_shown(trial.costs[cost]) if cost in trial.costs else NONE) for cost in costs),
            Cell(duration(trial.seconds)),
        )
        for trial in ranked(experiment)
    )
    return Table(header, rows)


def counted(experiment: Experiment) -> list[str]:
    """The costs on which the experiment depends, but parameters, which are always shown."""
    asked = " ".join([*experiment.objectives, *experiment.constraints])
    return [cost for cost in _costs(experiment) if cost in asked and cost != "parameters"]


def _costs(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys(cost for trial in experiment.trials for cost in trial.costs))


def _name(trial: Trial, experiment: Experiment) -> str:
    """`7`, `7, best`, `7, on the front`, `7, stopped early` or `7, not parameters<=300k`."""
    if trial.number == experiment.best and not experiment.front:
        return f"{trial.number}, {BEST}"
    if trial.number in experiment.front:
        return f"{trial.number}, on the front"
    state = f"not {' and '.join(trial.violated)}" if trial.violated else trial.state
    return str(trial.number) if state == "succeeded" else f"{trial.number}, {state}"


def value_shown(value: Any) -> str:
    """A value as people read it: a drawn number with five digits, all else as it is typed."""
    return f"{value:.5g}" if isinstance(value, float) else value_in_words(value)


def number(value: float | None) -> str:
    """A score, of which neither the unit nor the size is known, with six digits."""
    return NONE if value is None else f"{value:#.6g}".removesuffix(".")


def settings(experiment: Experiment) -> Table:
    """What each varied key is drawn from, and its value in the best trial to the last digit."""
    best = experiment.best_trial
    rows = tuple(
        (Cell(key), Cell(value_in_words(best.values[key]) if best else NONE), Cell(drawn_from))
        for key, drawn_from in experiment.varied.items()
    )
    return Table(("setting", "best value", "drawn from"), rows, words=3)


def failures(experiment: Experiment) -> Table | None:
    """Failed trials, in the order of submission."""
    rows = tuple(
        (Cell(str(trial.number)), Cell(trial.problem or NONE), Cell(trial.folder or NONE))
        for trial in experiment.trials
        if trial.state == "failed"
    )
    return Table(("trial", "problem", "folder"), rows, words=3) if rows else None


def numbers(experiment: Experiment) -> Table:
    """For programs: every trial in the order of submission, every number as it is."""
    costs = [cost for cost in _costs(experiment) if cost not in ("parameters", "seconds")]
    header = (
        "trial", "state", BEST, *experiment.varied, "score", "intermediate", *(f"accuracy_{kind}" for kind in SHOWN),
        "parameters", *costs, "seconds", "folder", "problem",
    )  # fmt: skip
    rows = (
        (
            trial.number,
            trial.state,
            int(trial.number == experiment.best),
            *(value_in_words(trial.values[key]) if key in trial.values else None for key in experiment.varied),
            trial.score,
            " ".join(map(str, trial.intermediate)),
            *(trial.accuracy.get(kind) for kind in SHOWN),
            trial.parameters,
            *(trial.costs.get(cost) for cost in costs),
            trial.seconds,
            trial.folder,
            trial.problem,
        )
        for trial in experiment.trials
    )
    return raw(header, rows)
