"""The trials of a search, drawn as those of an experiment that varies the choices of its space."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, model_validator

from nasdistill.report import plots, tables, trial_plots
from nasdistill.report.experiments import Trial, Trials
from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload, Percent
from nasdistill.report.points import value_in_words
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.report.trial_axes import importance_of
from nasdistill.words import NONE, whole

SHOWN = 10
"""Trials in the table."""
FEW_CHOICES = 8
"""Up to so many have a column each."""
ENOUGH = 10
"""Different architectures with a score, from which on the importance of choices is estimated."""
MATTERED = (
    "The share of the scores' variance that each choice explains in a random forest; it is shown where the forest "
    "predicts the scores of trials that its trees have not seen (out-of-bag R² over 0)."
)


class SearchTrial(BaseModel):
    """An architecture that a search tried."""

    chosen: dict[str, Any] = Field(description="By label the alternative that it has; plain data.")
    parameters: int = Field(ge=0, description="Of the network that it describes.")
    score: Percent | None = Field(description="The best of the curve; None where training diverged.")
    curve: list[Percent] = Field(description="The score after each epoch.")
    stopped: str | None = Field(description="Why training ended early.")
    like: int | None = Field(ge=0, description="Number of the earlier trial that had the same architecture.")
    scores: dict[str, float | None] | None = Field(
        None, description="By proxy, where architectures were scored untrained; such a score has no curve."
    )


class SearchTrials(Payload):
    """`trials.json`: the architectures that a search trained or scored, one after the other."""

    file = "trials.json"

    score: str = Field(description="What the score is, e.g. `accuracy`.")
    best: int = Field(ge=0, description="Number of the trial that was found.")
    trials: list[SearchTrial] = Field(min_length=1, description="In the order of the trials.")

    @model_validator(mode="after")
    def _consistent(self) -> SearchTrials:
        if any(trial.like is not None and trial.like >= number for number, trial in enumerate(self.trials)):
            raise ValueError("a trial can only be like an earlier one")
        if any(trial.scores is None and trial.score != max(trial.curve, default=None) for trial in self.trials):
            raise ValueError("the score must be the best of the curve")
        if self.best >= len(self.trials) or self.trials[self.best].score is None:
            raise ValueError("the best trial must be one that has a score")
        if len({trial.scores and tuple(trial.scores) for trial in self.trials}) != 1:
            raise ValueError("all trials must be scored by the same proxies, or none")
        if len({frozenset(trial.chosen) for trial in self.trials}) != 1:
            raise ValueError("all trials must choose for the same labels")
        return self


@SECTIONS.register("trials")
class TrialsOfSearch(Section):
    """The architectures that a search tried one by one."""

    title = "Trials of the search"
    lead = (
        "Each trial is an architecture, trained a little on a part of the training images and scored on the rest of "
        "them, or scored once with weights that all share, or untrained by proxies, against the other trials. The "
        "stronger the colour, the better; the star "
        "is the one that was found."
    )
    payload = SearchTrials
    place = 40

    def of_seed(self, heading: str, payload: SearchTrials, row: Row) -> list[Group]:
        groups = [Group(heading, draw(payload), table(payload))]
        mattered = draw_importance(payload)
        if mattered is not None:
            groups.append(Group(f"{heading}: importance of choices", (mattered,), note=MATTERED))
        return groups


def draw(found: SearchTrials) -> tuple[str, ...]:
    """Score over trials, over size, and over epochs where there are several; SVG."""
    experiment = as_trials(found)
    sized: dict[str, list[tuple[float, float]]] = {"trials": [], "found": []}
    for number, trial in enumerate(found.trials):
        if trial.score is not None:
            sized["found" if number == found.best else "trials"].append((trial.parameters, trial.score))
    points = {name: places for name, places in sized.items() if places}
    pictures = [
        trial_plots.progress(experiment),
        plots.scatter(points, "Score and size", "parameters", f"{found.score}, %"),
    ]
    if any(len(trial.curve) > 1 for trial in found.trials):
        pictures.append(trial_plots.curves(experiment))
    return tuple(pictures)


def draw_importance(found: SearchTrials) -> str | None:
    """How much of the score's variance each choice explains; SVG. None where too few trials are known."""
    experiment = as_trials(found)
    once = [experiment.trials[number] for number, trial in enumerate(found.trials) if trial.like is None]
    scored = [trial for trial in once if trial.state == "succeeded"]
    if len(scored) < ENOUGH or len(experiment.varied) < 2:
        return None
    shares = importance_of(experiment, scored)
    if shares is None or shares.out_of_bag <= 0:
        return None
    return trial_plots.bars(shares, list(experiment.varied))


def table(found: SearchTrials) -> tables.Table:
    """The best trials, each architecture once: score, size, how it came to the score, and a few choices."""
    once = [number for number, trial in enumerate(found.trials) if trial.like is None and trial.score is not None]
    ranked = sorted(once, key=lambda number: -(found.trials[number].score or 0))
    labels = list(_varied(found))
    shown = labels if len(labels) <= FEW_CHOICES else []
    rows = tuple(
        (
            tables.Cell(f"{number}, found" if number == found.best else str(number)),
            tables.Cell(f"{trial.score:.2f}"),
            tables.Cell(whole(trial.parameters)),
            *_measured(trial),
            *(tables.Cell(value_in_words(trial.chosen[label])) for label in shown),
        )
        for number in ranked[:SHOWN]
        for trial in [found.trials[number]]
    )
    measured = found.trials[0].scores or ("epochs",)
    return tables.Table(("trial", f"{found.score} %", "parameters", *measured, *shown), rows)


def _measured(trial: SearchTrial) -> tuple[tables.Cell, ...]:
    """How long it was trained, or its scores by proxies."""
    if trial.scores is None:
        return (tables.Cell(str(len(trial.curve)), trial.stopped or ""),)
    return tuple(tables.Cell(NONE if value is None else f"{value:.4g}") for value in trial.scores.values())


def as_trials(found: SearchTrials) -> Trials:
    """The same trials; those that have another's architecture have its score as well."""
    return Trials(
        metric=f"{found.score}, %",
        higher_is_better=True,
        varied=dict.fromkeys(_varied(found), "choice"),
        scales=dict.fromkeys(_varied(found), "choice"),
        trials=tuple(
            Trial(
                number,
                trial.chosen,
                "failed" if trial.score is None else "succeeded" if trial.stopped is None else "stopped early",
                trial.score,
                tuple(trial.curve),
            )
            for number, trial in enumerate(found.trials)
        ),
        best=found.best,
    )


def _varied(found: SearchTrials) -> list[str]:
    """The labels for which not all trials chose the same."""
    first = found.trials[0].chosen
    return [label for label in first if any(trial.chosen[label] != first[label] for trial in found.trials)]
