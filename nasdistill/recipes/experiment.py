"""The `tune` section of a recipe: what an experiment varies, how it chooses, and when it ends."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from nasdistill.component import Options
from nasdistill.recipes.constraint import Constraint, Cost
from nasdistill.recipes.varied import VariedValue


def _time_with_unit(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[1-9][0-9]{0,5}[smhd]", text):
        raise ValueError("a time is a whole number with s, m, h or d behind it, e.g. 90m")
    return text


def seconds_of(time: str) -> int:
    """The seconds of a time such as `90m`."""
    return int(time[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[time[-1]]


Time = Annotated[str | None, AfterValidator(_time_with_unit)]


def _readable(text: str) -> str:
    Constraint.read(text)
    return text


def _each_once(costs: tuple[Cost, ...]) -> tuple[Cost, ...]:
    for cost in costs:
        if costs.count(cost) > 1:
            raise ValueError(f"{cost!r} stands here twice")
    return costs


Metric = Literal["validation.score", "validation.loss"]


class TuneSettings(Options):
    """An experiment: a recipe run again and again with other values of some keys."""

    vary: dict[str, VariedValue] = Field(
        default_factory=dict,
        description="keys of the recipe with what they may be, e.g. loguniform(10, 3000), uniform(0, 1), "
        "quniform(4, 20, 2), randint(1, 9), choice(a, b)",
    )
    engine: Literal["optuna", "nni"] = Field(
        "optuna",
        description="chooses the values and has trials run; nni is for its training services, where it is installed",
    )
    tuner: str | dict[str, Any] = Field(
        "TPE",
        description="what chooses the values, by name or as {name: TPE, n_startup_trials: 5}: TPE, Random, GridSearch, "
        "CMA-ES, NSGA-II, GP; with nni one of its tuners",
    )
    assessor: str | dict[str, Any] | None = Field(
        None,
        description="what ends trials that lag behind, by name or as {name: Medianstop, n_warmup_steps: 3}: "
        "Medianstop, Hyperband, ASHA; with nni one of its own; it reads the validation score after each evaluation",
    )
    trials: int = Field(20, gt=0, description="trials in all; a finished experiment goes on when it is raised")
    concurrency: int = Field(1, gt=0, le=1024, description="trials at the same time")
    stage: str | None = Field(
        None, description="the stage whose metric counts; the last one with a validation score if left out"
    )
    metric: Metric = Field(
        "validation.score",
        description="of the saved weights, on the validation images: the score that selects, or the loss; mean over "
        "the seeds",
    )
    objectives: Annotated[tuple[Cost, ...], AfterValidator(_each_once)] = Field(
        (), description="costs to keep low beside the metric, e.g. latency_ms; the best trials are then a Pareto front"
    )
    constraints: tuple[Annotated[str, AfterValidator(_readable)], ...] = Field(
        (), description="limits that the best trial keeps, e.g. parameters<=300k"
    )
    duration: Time = Field(None, description="start no trial after this time, e.g. 8h")
    trial_duration: Time = Field(None, description="end a trial after this time, e.g. 30m")
    budget_key: str | None = Field(
        None, description="key that takes the budget of nni's Hyperband or BOHB, e.g. stages.student.epochs"
    )
    attempts: int = Field(3, gt=0, description="how often a trial is started at most, if the system kills it")

    @property
    def higher_is_better(self) -> bool:
        return self.metric == "validation.score"

    def search_space(self) -> dict[str, Any]:
        """What varies, in nni's terms."""
        return {key: varied.search_space() for key, varied in self.vary.items()}
