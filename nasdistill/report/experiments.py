"""The outcome of an experiment over settings: its trials as plain data, so that its report can be written again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from nasdistill.ledger import Ledger
from nasdistill.report.results import FORMAT, read_record
from nasdistill.storage import sealed

EXPERIMENT = "experiment.json"
State = Literal["succeeded", "stopped early", "failed", "waiting", "running"]
Scale = Literal["linear", "log", "choice"]


@dataclass(frozen=True)
class Trial:
    """One run of the recipe with one value for each varied key.

    Attributes:
        number: in the order of submission, from 0.
        values: by varied key; plain data.
        score: finite; of a trial that was stopped early its last intermediate one.
        intermediate: the scores that it reported on its way, finite, for the assessor.
        accuracy: `last`, `best` and `selected` on the test set in percent, means over seeds; nothing where unknown.
        seconds: wall time.
        folder: of its run, relative to the experiment's.
        problem: why it failed.
        costs: of its network, by name, e.g. `latency_ms`.
        violated: the constraints that it does not keep, as they were written.
        scores: of each seed of one that succeeded, in the order of the recipe's; `score` is their mean.
    """

    number: int
    values: Mapping[str, Any]
    state: State
    score: float | None = None
    intermediate: tuple[float, ...] = ()
    accuracy: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    seconds: float | None = None
    folder: str | None = None
    problem: str | None = None
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    violated: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials with the same keys varied.

    Attributes:
        metric: in words, with its unit, e.g. `validation score of student, %`.
        varied: what each varied key is drawn from, as it was written, e.g. `loguniform(10, 3000)`.
        scales: how the values of each varied key lie: on a line, on a logarithmic one, or as choices without order.
        best: the number of the best trial of those that succeeded; None if none did.
    """

    metric: str
    higher_is_better: bool
    varied: Mapping[str, str]
    scales: Mapping[str, Scale]
    trials: tuple[Trial, ...]
    best: int | None


@dataclass(frozen=True, kw_only=True)
class Experiment(Trials):
    """A recipe run many times with other values of its keys.

    Attributes:
        name: of the experiment.
        recipe: the resolved recipe before anything is varied, as YAML text.
        command: what to type to do it again.
        tuner, assessor: in words.
        versions: of this package, Python and the libraries.
        device: the machine in words.
        started: when, as ISO 8601 with a time zone.
        seconds: wall time of the experiment.
        objectives: costs that count beside the score, the lower the better.
        constraints: as they were written, e.g. `parameters<=300k`.
        front: the numbers of the trials that no other beats in score and objectives, best scores first, as in `best`.
    """

    name: str
    recipe: str
    command: str
    tuner: str
    assessor: str | None
    versions: Mapping[str, str]
    device: str
    started: str
    seconds: float
    objectives: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    front: tuple[int, ...] = ()

    @property
    def best_trial(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.number == self.best), None)


_EXPERIMENT = TypeAdapter(Experiment)


def save_experiment(experiment: Experiment, folder: Path) -> None:
    """Write `experiment.json` into the experiment's folder."""
    Ledger(folder).write(EXPERIMENT, sealed({"format": FORMAT, **dataclasses.asdict(experiment)}))


def load_experiment(folder: Path) -> Experiment:
    """Read what `save_experiment` wrote.

    Raises:
        UserError: `folder` is no experiment, or one of another format.
        DamagedFile: the record is not what was written.
    """
    return read_record(_EXPERIMENT, folder, EXPERIMENT, "an experiment")
