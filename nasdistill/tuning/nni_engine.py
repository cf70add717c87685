"""The engine nni: the one readable loop around its manager."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from nasdistill.errors import UserError
from nasdistill.interrupts import leave_if_requested, requested_stop
from nasdistill.nni_bridge import require_nni
from nasdistill.report.experiments import Trial
from nasdistill.tuning.algorithms import algorithms_of
from nasdistill.tuning.checking import Tuned
from nasdistill.tuning.manager import CHANGEABLE, ENDED, EXHAUSTED, Manager, ManagerGone
from nasdistill.tuning.outcome import FINISHED, trials_of
from nasdistill.tuning.plan import PLAN_FOLDER
from nasdistill.tuning.run import Run
from nasdistill.tuning.service import Portal, Service

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
RESTARTS = 4
"""How often a manager that ended is started again in a row, without a trial's end in between."""
LOOKS = 3
"""How often in a row nothing is left, as nni starts a suggested trial a moment later."""


class Nni:
    """nni's manager chooses the values and starts the trials, here or where a training service has machines.

    Raises:
        UserError: nni is missing or refuses the tuner or the assessor; later, the manager was killed too often.
    """

    def __init__(self, tuned: Tuned, service: Service, portal: Portal) -> None:
        require_nni("the engine nni")
        self.algorithms = algorithms_of(tuned.recipe, tuned.settings)
        self.service = service
        self.portal = portal

    def trials(self, run: Run) -> tuple[Trial, ...]:
        manager = self._manager(run)
        self._tell_where(manager, run)
        restarts = exhausted = 0
        trials: tuple[Trial, ...] = ()
        with run.news() as news:
            while True:
                try:
                    status = manager.status()
                    trials = trials_of(manager.jobs(), run.plan, run.out)
                    problem = manager.problem() if status == "ERROR" else None
                except ManagerGone as gone:
                    problem = str(gone)
                if news.tell(trials):
                    restarts = 0
                exhausted = exhausted + 1 if problem is None and _exhausted(status, trials) else 0
                if problem is None and requested_stop() is None and (status in ENDED or exhausted == LOOKS):
                    break
                if requested_stop() is not None:
                    log.warning("stopping; trials at work save first")
                if problem is not None or requested_stop() is not None:
                    _end_but_keep(manager)
                    run.save(trials)
                    leave_if_requested()
                    restarts += 1
                    if restarts > RESTARTS:
                        raise UserError(
                            f"nni's manager ended {restarts} times, at last because {problem}; what is done is saved, "
                            "and the same command goes on from there"
                        )
                    log.warning("nni's manager ended (%s); starting it again, no trial is lost", problem)
                    time.sleep(POLL_SECONDS * 2**restarts)
                    manager = self._start(run)
                time.sleep(POLL_SECONDS)
        manager.stop()
        if exhausted:
            log.warning("the tuner has no other values to try: %d trials, not %d", len(trials), run.settings.trials)
        run.remembered.manager = None
        return trials

    def _config(self, run: Run) -> dict[str, Any]:
        """The experiment in nni's terms."""
        settings = run.settings
        limits = {"maxExperimentDuration": settings.duration, "maxTrialDuration": settings.trial_duration}
        return {
            "experimentName": run.recipe.settings.name,
            "searchSpace": settings.search_space(),
            "trialCommand": self.service.command,
            "trialCodeDirectory": str((run.out / PLAN_FOLDER).resolve()),
            "trialConcurrency": settings.concurrency,
            "maxTrialNumber": settings.trials,
            **{name: value for name, value in limits.items() if value is not None},
            **self.algorithms,
            **self.service.config,
        }

    def _manager(self, run: Run) -> Manager:
        """The manager: the one that still runs, else a new one that creates the experiment or goes on with it."""
        known = run.remembered.manager
        if known is not None:
            running = Manager.find(run.remembered.experiment, known["port"], known["process"])
            if running is not None:
                log.info("the experiment is still running; following it")
                return running
        return self._start(run)

    def _start(self, run: Run) -> Manager:
        """Start a manager, with the limits of this call where it goes on with an experiment."""
        config = self._config(run)
        manager = Manager.start(run.remembered.experiment, config, self.portal.host, self.portal.port)
        run.remembered.manager = {"port": manager.port, "process": manager.process}
        run.remember()
        manager.change(**{name: config[name] for name in CHANGEABLE if name in config})
        return manager

    def _tell_where(self, manager: Manager, run: Run) -> None:
        log.info(
            "experiment %s of up to %d trials%s; portal: http://%s:%d",
            manager.experiment,
            run.settings.trials,
            f", {len(run.told)} of them done" if run.told else "",
            self.portal.host,
            manager.port,
        )


def _end_but_keep(manager: Manager) -> None:
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


def _exhausted(status: str, trials: Sequence[Trial]) -> bool:
    """Whether the tuner has nothing left to suggest and all that it suggested has ended; nni itself would wait on."""
    return status == EXHAUSTED and all(trial.state in FINISHED for trial in trials)
