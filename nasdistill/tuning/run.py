"""One call of `tune`: what an experiment tells while it runs, and what it leaves."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nasdistill.errors import UserError
from nasdistill.ledger import Ledger
from nasdistill.recipes.experiment import seconds_of
from nasdistill.recipes.place import UNFINISHED
from nasdistill.recipes.provenance import device_in_words, versions
from nasdistill.report.experiment_page import write_experiment
from nasdistill.report.experiments import Experiment, Trial, load_experiment, save_experiment
from nasdistill.report.points import in_words, value_in_words
from nasdistill.storage import sealed
from nasdistill.training.records import Progress, Records
from nasdistill.tuning.checking import Tuned
from nasdistill.tuning.outcome import FINISHED, best_of, front_of, write_best
from nasdistill.tuning.plan import PLAN_FOLDER, Plan
from nasdistill.tuning.remembered import Remembered
from nasdistill.tuning.service import Service
from nasdistill.tuning.trial import MARKER

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Chooses values and has trials run."""

    def trials(self, run: Run) -> tuple[Trial, ...]:
        """Run trials until there are as many as wanted, or no other values to try.

        Raises:
            Interrupted: a stop was asked for; what is known of the trials was saved.
        """
        ...


class Run:
    """One call of `tune`: what it tells, and what it leaves.

    Attributes:
        told: the numbers of the trials of which it was told that they have ended.
    """

    def __init__(self, tuned: Tuned, out: Path, command: str, service: Service) -> None:
        self.recipe, self.settings = tuned.recipe, tuned.settings
        self.out = out
        self.command = command
        self.began = time.monotonic()
        self.remembered = Remembered.of(tuned.recipe, tuned.settings.engine, out)
        self.seconds_before = self.remembered.seconds
        self.told: set[int] = set()
        limit = self.settings.duration
        self.plan = Plan(
            experiment=self.remembered.experiment,
            out=str(out.resolve()),
            remote=service.folder or f"nasdistill-{self.remembered.experiment}",
            directory=str(Path.cwd()),
            vary=self.settings.vary,
            stage=tuned.stage,
            metric=self.settings.metric,
            budget_key=self.settings.budget_key,
            attempts=self.settings.attempts,
            threads=threads(self.settings.concurrency) if service.platform == "local" else None,
            until=None if limit is None else time.time() + seconds_of(limit) - self.seconds_before,
        )
        self.plan.write(out / PLAN_FOLDER, self.recipe.data, tuned.plugins, tuned.files)
        Ledger(out).write(MARKER, self.remembered.experiment)

    def to_the_end(self, engine: Engine) -> Experiment:
        earlier = self._earlier()
        trials = () if earlier is None else earlier.trials
        self.told = {trial.number for trial in trials if trial.state in FINISHED}
        if earlier is not None and not self.remembered.running and len(self.told) >= self.settings.trials:
            return self._concluded(earlier)
        Ledger(self.out).write(UNFINISHED, sealed({"command": self.command}))
        self.remembered.running = True
        self.remember()
        trials = engine.trials(self)
        self.remembered.running = False
        return self._concluded(self.save(trials))

    def _concluded(self, experiment: Experiment) -> Experiment:
        write_experiment(experiment, self.out)
        write_best(experiment, self.out)
        Ledger(self.out).remove(UNFINISHED)
        return experiment

    def _earlier(self) -> Experiment | None:
        """What an earlier call that was stopped, or came to its end, wrote."""
        try:
            return load_experiment(self.out)
        except UserError:
            return None

    @contextmanager
    def news(self) -> Iterator[News]:
        """What tells of trials that end."""
        records = Records(self.out / "tensorboard", "trials")
        with records.progress(self.settings.trials, len(self.told), unit="trial") as progress:
            yield News(self, records, progress)
        records.close()

    def remember(self) -> None:
        self.remembered.seconds = self.seconds_before + time.monotonic() - self.began
        self.remembered.write(self.out)

    def save(self, trials: tuple[Trial, ...]) -> Experiment:
        self.remember()
        settings = self.settings
        unit = ", %" if settings.metric == "validation.score" else ""
        front = front_of(trials, settings.higher_is_better, settings.objectives)
        experiment = Experiment(
            name=self.recipe.settings.name,
            recipe=self.recipe.text(),
            command=self.command,
            metric=f"{settings.metric.replace('.', ' ')} of {self.plan.stage}{unit}",
            higher_is_better=settings.higher_is_better,
            varied={key: str(varied) for key, varied in settings.vary.items()},
            scales={key: varied.scale for key, varied in settings.vary.items()},
            tuner=value_in_words(settings.tuner),
            assessor=None if settings.assessor is None else value_in_words(settings.assessor),
            trials=trials,
            best=front[0] if front else best_of(trials, settings.higher_is_better),
            front=front,
            objectives=settings.objectives,
            constraints=settings.constraints,
            versions=versions(settings.engine),
            device=device_in_words(self.recipe.settings.engine),
            started=self.remembered.started,
            seconds=self.remembered.seconds,
        )
        save_experiment(experiment, self.out)
        return experiment


@dataclass(frozen=True)
class News:
    """Tells of trials that ended, each once: a line, a point in TensorBoard, a step of the progress bar."""

    run: Run
    records: Records
    progress: Progress

    def tell(self, trials: Sequence[Trial]) -> bool:
        """Tell what is new since the last look; whether there is anything."""
        told = self.run.told
        before = len(told)
        for trial in trials:
            if trial.state in FINISHED and trial.number not in told:
                told.add(trial.number)
                best = best_of(trials, self.run.settings.higher_is_better)
                unit = " %" if self.run.settings.metric == "validation.score" else ""
                score = "no score" if trial.score is None else f"{trial.score:.4g}{unit}"
                values = {
                    key: float(f"{value:.4g}") if isinstance(value, float) else value
                    for key, value in trial.values.items()
                }
                log.info("trial %d %s: %s at %s", trial.number, trial.state, score, in_words(values))
                if trial.problem:
                    log.warning("trial %d: %s", trial.number, trial.problem)
                if trial.score is not None:
                    self.records.scalars({"trials/score": trial.score}, trial.number)
                self.progress.step("" if best is None else f"best: trial {best}")
        return len(told) > before


def threads(concurrency: int) -> int | None:
    """Of each trial: those at the same time share the cores of this machine."""
    return max(1, (os.cpu_count() or 1) // concurrency) if concurrency > 1 else None
