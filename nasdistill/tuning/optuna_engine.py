"""The engine optuna: workers that take trials from the experiment's journal until none is left, here and elsewhere."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasdistill.errors import UserError
from nasdistill.interrupts import leave_if_requested, requested_stop
from nasdistill.recipes.experiment import TuneSettings, seconds_of
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.trust import Trust
from nasdistill.report.experiments import Trial
from nasdistill.tuning.checking import Tuned
from nasdistill.tuning.plan import PLAN, PLAN_FOLDER, RECIPE, Plan, digest_of, read_plan
from nasdistill.tuning.run import Run, threads
from nasdistill.tuning.sampling import Sampling
from nasdistill.tuning.study import Study, Taken
from nasdistill.tuning.trial import TrialRun

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
LOG = "trial.log"


class Optuna:
    """Optuna chooses the values; each of so many workers has one trial at a time.

    Raises:
        RecipeError: optuna refuses the tuner, the assessor, or what varies.
    """

    def __init__(self, tuned: Tuned) -> None:
        self.sampling = Sampling(tuned.recipe, tuned.settings)

    def trials(self, run: Run) -> tuple[Trial, ...]:
        study = Study(run.out, run.plan, self.sampling)
        log.info(
            "up to %d trials%s; machines that see %s join with: nasdistill tune --worker %s",
            *(run.settings.trials, f", {len(run.told)} of them done" if run.told else "", run.out, run.plan.out),
        )
        with run.news() as news:
            work(run.out, run.plan, self.sampling, run.settings.concurrency, lambda: news.tell(study.trials()))
        trials = study.trials()
        if requested_stop() is not None:
            run.save(trials)
        leave_if_requested()
        if len(trials) < run.settings.trials and len(trials) == self.sampling.combinations():
            log.warning("there are no other values to try: %d trials, not %d", len(trials), run.settings.trials)
        return trials


def join(out: Path, workers: int, trust: Trust) -> None:
    """Take trials of an experiment that another machine or user began, until none is left; no server is needed.

    Args:
        out: the experiment's folder, as this machine sees it.
        trust: says whether the code of the recipe's plug-ins may run.

    Raises:
        UserError: there is no such experiment, or nobody said yes to its code.
        Interrupted: a stop was asked for; other workers go on with what is saved.
    """
    if not (out / PLAN_FOLDER / PLAN).is_file():
        raise UserError(f"{out} holds no experiment; name the folder of one that nasdistill tune began")
    recipe = load_recipe(str(out / PLAN_FOLDER / RECIPE), trust=trust)
    plan = read_plan(out / PLAN_FOLDER).model_copy(update={"threads": threads(workers)})
    settings = recipe.settings.tune or TuneSettings()
    if settings.engine != "optuna":
        raise UserError(f"nobody joins {out}: its trials are those of nni's manager")
    work(out, plan, Sampling(recipe, settings.model_copy(update={"vary": plan.vary})), workers)
    leave_if_requested()
    log.info("no trial is left")


def work(out: Path, plan: Plan, sampling: Sampling, workers: int, look: Callable[[], Any] = lambda: None) -> None:
    """Have workers take trials until none is left, or a stop is asked for; trials at work then save first.

    Args:
        out: the experiment's folder, as this machine sees it.
        look: is called again and again meanwhile.
    """
    everybody = [Worker(out, plan, sampling) for _ in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        at_work = [pool.submit(worker.run) for worker in everybody]
        try:
            while not all(each.done() for each in at_work):
                look()
                if requested_stop() is not None or any(each.done() and each.exception() for each in at_work):
                    break
                time.sleep(POLL_SECONDS)
            else:
                look()
        finally:
            if requested_stop() is not None:
                log.warning("stopping; trials at work save first")
            for worker in everybody:
                worker.stop()
    for each in at_work:
        each.result()


class Worker:
    """Takes a trial, has it worked on in a process of its own, and tells what came of it; then the next one."""

    def __init__(self, out: Path, plan: Plan, sampling: Sampling) -> None:
        self.out, self.plan, self.sampling = out, plan, sampling
        self._stopped = threading.Event()
        self._trial: TrialRun | None = None

    def run(self) -> None:
        study = Study(self.out, self.plan, self.sampling)
        while not self._stopped.is_set():
            taken = study.take()
            if taken is not None:
                try:
                    self._have_done(taken)
                finally:
                    taken.give_back()
            elif study.over():
                return
            else:  # others are at work, whose trials may come back
                self._stopped.wait(POLL_SECONDS)

    def stop(self) -> None:
        """Save and give back the trial, and take no other; from another thread."""
        self._stopped.set()
        if self._trial is not None:
            self._trial.stop(signal.SIGTERM)

    def _have_done(self, taken: Taken) -> None:
        folder = self.out / "trials" / digest_of(taken.values)
        self._trial = run = TrialRun(self.plan, self.out / PLAN_FOLDER, self.out, taken.values, folder / LOG)
        if self._stopped.is_set():  # before there was a trial to stop
            return
        hearing = Hearing(taken, run)
        with hearing.at_most(self.sampling.settings.trial_duration):
            status = run.run(hearing)
        if run.record is not None:
            return
        if hearing.enough:
            taken.stop_early()
        elif not self._stopped.is_set():
            taken.fail(run.problem or f"its work ended with status {status}; its log is {folder / LOG}")


class Hearing:
    """Hears a trial's numbers, and stops it where it lags behind or takes too long."""

    def __init__(self, taken: Taken, run: TrialRun) -> None:
        self._taken, self._run = taken, run
        self.enough = False

    def report_intermediate_result(self, metric: dict[str, Any]) -> None:
        if self._taken.hear(metric["default"]):
            self.stop_early()

    def report_final_result(self, metric: dict[str, Any]) -> None:
        self._taken.complete(metric["record"])

    @contextmanager
    def at_most(self, duration: str | None) -> Iterator[None]:
        if duration is None:
            yield
            return
        clock = threading.Timer(seconds_of(duration), self.stop_early)
        clock.start()
        try:
            yield
        finally:
            clock.cancel()

    def stop_early(self) -> None:
        self.enough = True
        self._run.stop(signal.SIGTERM)
