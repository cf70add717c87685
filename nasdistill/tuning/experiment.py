"""An experiment from beginning to end: the one readable loop around nni's manager."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdistill.errors import UserError
from nasdistill.interrupts import leave_if_requested, requested_stop
from nasdistill.ledger import Ledger, not_ours
from nasdistill.nni_bridge import require_nni
from nasdistill.recipes.lock import run_lock
from nasdistill.recipes.place import UNFINISHED, check_folder, others_in
from nasdistill.recipes.provenance import device_in_words, versions
from nasdistill.report.experiment_page import CSV, MARKDOWN, write_experiment
from nasdistill.report.experiments import EXPERIMENT, Experiment, Trial, load_experiment, save_experiment
from nasdistill.report.points import in_words, value_in_words
from nasdistill.storage import remove_leftovers, sealed
from nasdistill.training.records import Records
from nasdistill.tuning.algorithms import algorithms_of
from nasdistill.tuning.checking import Tuned
from nasdistill.tuning.manager import CHANGEABLE, ENDED, EXHAUSTED, Manager, ManagerGone
from nasdistill.tuning.outcome import BEST, best_of, trials_of, write_best
from nasdistill.tuning.plan import PLAN, RECIPE, Plan
from nasdistill.tuning.remembered import FILE, Remembered
from nasdistill.tuning.service import Service
from nasdistill.tuning.trial import MARKER
from nasdistill.tuning.worker import SHARED

log = logging.getLogger(__name__)

PLAN_FOLDER = "plan"
POLL_SECONDS = 2.0
RESTARTS = 4
"""How often a manager that ended is started again in a row, without a trial's end in between."""
LOOKS = 3
"""How often in a row nothing is left, as nni starts a suggested trial a moment later."""
FINISHED = ("succeeded", "stopped early", "failed")


@dataclass(frozen=True)
class Portal:
    """Where nni's web page is served: to this machine alone unless the user says otherwise."""

    host: str = "127.0.0.1"
    port: int | None = None


def tune(
    tuned: Tuned, out: Path, command: str, service: Service | None = None, portal: Portal | None = None
) -> Experiment:
    """Run an experiment, or go on with the one in `out`, and write its page, tables and best recipe there.

    Args:
        command: what the user typed, for the report.

    Raises:
        UserError: nni is missing or refuses the experiment; `out` holds another one; the manager was killed too often.
        Interrupted: a stop was asked for; the same call goes on from there.
    """
    require_nni("nasdistill tune")
    check_experiment(tuned, out)  # before a lock lies in a folder that is none of ours
    with run_lock(out):
        for folder in (out, out / "artifacts"):
            remove_leftovers(folder)
        return _Run(tuned, out, command, service or Service(), portal or Portal()).to_the_end()


def check_experiment(tuned: Tuned, out: Path) -> None:
    """Find what keeps an experiment out of a folder; nothing is written.

    Raises:
        UserError: it would replace what nasdistill did not write, or lie inside data, an artifact or a run.
    """
    check_folder(out, tuned.recipe.settings.data, (*SHARED, PLAN_FOLDER, "trials", "tensorboard"))
    files = (FILE, UNFINISHED, MARKER, EXPERIMENT, MARKDOWN, CSV, BEST)
    others = Ledger(out).others(dict.fromkeys(files)) + others_in(out, ())
    planned = Ledger(out / PLAN_FOLDER).others(dict.fromkeys((RECIPE, PLAN, *tuned.files)))
    if others or planned:
        raise not_ours(out, [*others, *(f"{PLAN_FOLDER}/{name}" for name in planned)])


class _Run:
    """One call of `tune`."""

    def __init__(self, tuned: Tuned, out: Path, command: str, service: Service, portal: Portal) -> None:
        self.recipe, self.settings = tuned.recipe, tuned.settings
        self.algorithms = algorithms_of(tuned.recipe, tuned.settings)
        self.out = out
        self.command = command
        self.service = service
        self.portal = portal
        self.began = time.monotonic()
        self.remembered = Remembered.of(tuned.recipe, out)
        self.seconds_before = self.remembered.seconds
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
            threads=_threads(self.settings.concurrency) if service.platform == "local" else None,
        )
        self.plan.write(out / PLAN_FOLDER, self.recipe.data, tuned.plugins, tuned.files)
        Ledger(out).write(MARKER, self.remembered.experiment)

    def to_the_end(self) -> Experiment:
        earlier = self._earlier()
        trials = () if earlier is None else earlier.trials
        told = {trial.number for trial in trials if trial.state in FINISHED}
        if earlier is not None and self.remembered.manager is None and len(told) >= self.settings.trials:
            write_experiment(earlier, self.out)
            return earlier
        Ledger(self.out).write(UNFINISHED, sealed({"command": self.command}))
        manager = self._manager()
        self._tell_where(manager, len(told))
        restarts = exhausted = 0
        records = Records(self.out / "tensorboard", "trials")
        with records.progress(self.settings.trials, len(told), unit="trial") as progress:
            while True:
                try:
                    status = manager.status()
                    trials = trials_of(manager.jobs(), self.plan, self.out)
                    problem = manager.problem() if status == "ERROR" else None
                except ManagerGone as gone:
                    problem = str(gone)
                if self._tell_news(trials, told, records, progress):
                    restarts = 0
                exhausted = exhausted + 1 if problem is None and _exhausted(status, trials) else 0
                if problem is None and requested_stop() is None and (status in ENDED or exhausted == LOOKS):
                    break
                if requested_stop() is not None:
                    log.warning("stopping; trials at work save first")
                if problem is not None or requested_stop() is not None:
                    self._end_but_keep(manager)
                    self._save(trials)
                    leave_if_requested()
                    restarts += 1
                    if restarts > RESTARTS:
                        raise UserError(
                            f"nni's manager ended {restarts} times, at last because {problem}; what is done is saved, "
                            "and the same command goes on from there"
                        )
                    log.warning("nni's manager ended (%s); starting it again, no trial is lost", problem)
                    time.sleep(POLL_SECONDS * 2**restarts)
                    manager = self._start()
                time.sleep(POLL_SECONDS)
        records.close()
        manager.stop()
        if exhausted:
            log.warning("the tuner has no other values to try: %d trials, not %d", len(trials), self.settings.trials)
        self.remembered.manager = None
        experiment = self._save(trials)
        write_experiment(experiment, self.out)
        if (best := experiment.best_trial) is not None:
            write_best(self.out / PLAN_FOLDER, self.out, best, experiment.metric)
        Ledger(self.out).remove(UNFINISHED)
        return experiment

    def _earlier(self) -> Experiment | None:
        """What an earlier call that was stopped, or came to its end, wrote."""
        try:
            return load_experiment(self.out)
        except UserError:
            return None

    def _config(self) -> dict[str, Any]:
        """The experiment in nni's terms."""
        settings = self.settings
        limits = {"maxExperimentDuration": settings.duration, "maxTrialDuration": settings.trial_duration}
        return {
            "experimentName": self.recipe.settings.name,
            "searchSpace": settings.search_space(),
            "trialCommand": self.service.command,
            "trialCodeDirectory": str((self.out / PLAN_FOLDER).resolve()),
            "trialConcurrency": settings.concurrency,
            "maxTrialNumber": settings.trials,
            **{name: value for name, value in limits.items() if value is not None},
            **self.algorithms,
            **self.service.config,
        }

    def _manager(self) -> Manager:
        """The manager: the one that still runs, else a new one that creates the experiment or goes on with it."""
        known = self.remembered.manager
        if known is not None:
            running = Manager.find(self.remembered.experiment, known["port"], known["process"])
            if running is not None:
                log.info("the experiment is still running; following it")
                return running
        return self._start()

    def _start(self) -> Manager:
        """Start a manager, with the limits of this call where it goes on with an experiment."""
        config = self._config()
        manager = Manager.start(self.remembered.experiment, config, self.portal.host, self.portal.port)
        self.remembered.manager = {"port": manager.port, "process": manager.process}
        self._remember()
        manager.change(**{name: config[name] for name in CHANGEABLE if name in config})
        return manager

    def _tell_where(self, manager: Manager, done: int) -> None:
        log.info(
            "experiment %s of up to %d trials%s; portal: http://%s:%d",
            manager.experiment,
            self.settings.trials,
            f", {done} of them done" if done else "",
            self.portal.host,
            manager.port,
        )

    def _tell_news(self, trials: Sequence[Trial], told: set[int], records: Records, progress: Any) -> bool:
        """A line and a point in TensorBoard for each trial that ended since the last look; whether there are any."""
        before = len(told)
        for trial in trials:
            if trial.state in FINISHED and trial.number not in told:
                told.add(trial.number)
                best = best_of(trials, self.settings.higher_is_better)
                score = "no score" if trial.score is None else f"{trial.score:.4g}"
                log.info("trial %d %s: %s at %s", trial.number, trial.state, score, in_words(trial.values))
                if trial.problem:
                    log.warning("trial %d: %s", trial.number, trial.problem)
                if trial.score is not None:
                    records.scalars({"trials/score": trial.score}, trial.number)
                progress.step("" if best is None else f"best: trial {best}")
        return len(told) > before

    def _end_but_keep(self, manager: Manager) -> None:
        """End the manager, if it runs, so that the trials at work save, stop, and go on under the next one.

        nni marks trials that it stops itself as cancelled and never goes on with them; those of a manager that was
        killed it does. Its trials stop by themselves when they find it gone.
        """
        import psutil  # nni brings it along

        try:
            family = psutil.Process(manager.process).children(recursive=True)
        except (psutil.Error, OSError):  # it is gone, or nobody may look
            family = []
        if manager.alive():
            os.kill(manager.process, signal.SIGKILL)
            manager.alive()
        psutil.wait_procs(family, timeout=60)

    def _remember(self) -> None:
        self.remembered.seconds = self.seconds_before + time.monotonic() - self.began
        self.remembered.write(self.out)

    def _save(self, trials: tuple[Trial, ...]) -> Experiment:
        self._remember()
        settings = self.settings
        unit = ", %" if settings.metric == "validation.score" else ""
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
            best=best_of(trials, settings.higher_is_better),
            versions=versions("nni"),
            device=device_in_words(self.recipe.settings.engine),
            started=self.remembered.started,
            seconds=self.remembered.seconds,
        )
        save_experiment(experiment, self.out)
        return experiment


def _exhausted(status: str, trials: Sequence[Trial]) -> bool:
    """Whether the tuner has nothing left to suggest and all that it suggested has ended; nni itself would wait on."""
    return status == EXHAUSTED and all(trial.state in FINISHED for trial in trials)


def _threads(concurrency: int) -> int | None:
    """Trials at the same time share the cores of this machine."""
    return max(1, (os.cpu_count() or 1) // concurrency) if concurrency > 1 else None
