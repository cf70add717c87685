"""The trials of an experiment in its journal, which any number of processes and machines read and write."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nasdistill.recipes.constraint import Constraint
from nasdistill.recipes.lock import LOCK_MODE
from nasdistill.report.experiments import State, Trial
from nasdistill.tuning.lease import Lease
from nasdistill.tuning.outcome import trial_of
from nasdistill.tuning.plan import Plan
from nasdistill.tuning.sampling import Sampling

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

JOURNAL = "journal.log"
TURN = "turn.lock"
RECORD, PROBLEM = "record", "problem"
"""Attributes of a trial: what it came to, and why it failed."""


class Study:
    """The study as one worker sees it.

    Args:
        out: the experiment's folder, as this machine sees it.
    """

    def __init__(self, out: Path, plan: Plan, sampling: Sampling) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        path = out / JOURNAL
        lock: Any = JournalLock(path)
        self.out, self.plan, self.sampling = out, plan, sampling
        self.storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        self.optuna = optuna.create_study(
            study_name="trials",
            storage=self.storage,
            directions=sampling.directions,
            sampler=sampling.sampler(),
            pruner=sampling.pruner(),
            load_if_exists=True,
        )
        self._turn = FileLock(out / TURN, mode=LOCK_MODE)

    def take(self) -> Taken | None:
        """A trial to work on: one that was begun and that nobody has, else a new one; None where there is none now."""
        with self._turn:
            for trial in self._begun():
                if not trial.state.is_finished() and (taken := self._taken(trial)):
                    return taken
            return self._taken(self._asked()) if self._wants_more() else None

    def over(self) -> bool:
        """Whether all trials have ended, and no other begins."""
        return all(trial.state.is_finished() for trial in self._begun()) and not self._wants_more()

    def trials(self) -> tuple[Trial, ...]:
        """The trials in the order in which they began."""
        return tuple(self._shown(number, trial) for number, trial in enumerate(self._begun()))

    def _begun(self) -> list[FrozenTrial]:
        """The first trial with each of the values; of one that was killed while it was drawn some are missing."""
        found: dict[str, FrozenTrial] = {}
        for trial in self.optuna.get_trials(deepcopy=False):
            if trial.params.keys() == self.sampling.distributions.keys():
                found.setdefault(self.sampling.digest(trial.params), trial)
        return list(found.values())

    def _wants_more(self) -> bool:
        begun = len(self._begun())
        in_time = self.plan.until is None or time.time() < self.plan.until
        return in_time and begun < min(self.sampling.settings.trials, self.sampling.combinations())

    def _asked(self) -> FrozenTrial:
        """A new trial. Only one worker asks at a time, so that all see the same trials before."""
        begun = self._begun()
        tried = {self.sampling.digest(trial.params) for trial in begun}
        redraws = 0
        while True:
            self.optuna.sampler = self.sampling.sampler(begun, redraws)
            number = self.optuna.ask(self.sampling.distributions).number
            trial: FrozenTrial = self.optuna.get_trials(deepcopy=False)[number]
            if self.sampling.digest(trial.params) not in tried:
                return trial
            self.optuna.tell(number, state=_states().FAIL)
            redraws += 1

    def _taken(self, trial: FrozenTrial) -> Taken | None:
        lease = Lease.take(self.out / "trials" / self.sampling.digest(trial.params))
        if lease is None:
            return None
        taken = Taken(self, trial, lease)
        if self.storage.get_trial(trial._trial_id).state.is_finished():  # a moment ago
            taken.give_back()
            return None
        return taken

    def _shown(self, number: int, trial: FrozenTrial) -> Trial:
        record: Mapping[str, Any] = trial.user_attrs.get(RECORD, {})
        told = [value for _, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)]
        state: State = "running"
        if trial.state.is_finished():
            state = "succeeded" if record else "stopped early" if trial.state == _states().PRUNED else "failed"
        took = trial.duration.total_seconds() if trial.duration is not None else None
        costs = record.get("costs", {})
        return trial_of(
            record,
            told,
            took,
            number=number,
            values=self.sampling.values(trial.params),
            state=state,
            problem=trial.user_attrs.get(PROBLEM),
            costs=costs,
            violated=tuple(text for text, by in self.missed(costs).items() if by > 0) if record else (),
        )

    def missed(self, costs: Mapping[str, float]) -> dict[str, float]:
        """By how much each limit is missed."""
        return {text: Constraint.read(text).violation(costs) for text in self.sampling.settings.constraints}


class Taken:
    """A trial in the hands of one worker.

    Attributes:
        values: for the recipe.
    """

    def __init__(self, study: Study, trial: FrozenTrial, lease: Lease) -> None:
        self._study, self._trial, self._lease = study, trial, lease
        self.values = study.sampling.values(trial.params)
        self._heard = 0

    def hear(self, score: float) -> bool:
        """Note an intermediate score; after a restart it is told again. Returns whether the trial lags behind."""
        storage, mine = self._study.storage, self._trial._trial_id
        if self._heard not in self._trial.intermediate_values:
            storage.set_trial_intermediate_value(mine, self._heard, score)
        self._heard += 1
        lags: bool = self._study.optuna.pruner.prune(self._study.optuna, storage.get_trial(mine))
        return lags

    def complete(self, record: Mapping[str, Any]) -> None:
        """The trial came to its end."""
        import optuna

        settings, costs = self._study.sampling.settings, record["costs"]
        wanted = [*settings.objectives, *(Constraint.read(text).cost for text in settings.constraints)]
        if untold := [cost for cost in wanted if cost not in costs]:
            self.fail(f"the stage {self._study.plan.stage!r} tells no {untold[0]}, on which the experiment depends")
            return
        self._note(RECORD, record)
        trial = optuna.trial.Trial(self._study.optuna, self._trial._trial_id)
        for text, by in self._study.missed(costs).items():
            trial.set_constraint(text, by)
        values = [record["score"], *(costs[cost] for cost in settings.objectives)]
        self._tell("COMPLETE" if all(map(math.isfinite, values)) else "FAIL", values)

    def stop_early(self) -> None:
        """The trial lags behind, or took too long."""
        self._tell("PRUNED")

    def fail(self, problem: str) -> None:
        self._note(PROBLEM, problem)
        self._tell("FAIL")

    def give_back(self) -> None:
        """Let another worker go on with it, if it has not ended."""
        self._lease.release()

    def _note(self, attribute: str, value: Any) -> None:
        self._study.storage.set_trial_user_attr(self._trial._trial_id, attribute, value)

    def _tell(self, state: str, values: Iterable[float] | None = None) -> None:
        told = list(values or ()) if state == "COMPLETE" else None
        self._study.optuna.tell(self._trial.number, told, _states()[state])


class JournalLock:
    """The journal's lock in the form of optuna's, which outlive a holder that was killed; this one ends with it.

    A line that a killed writer left half is cut off, as no journal with one in its middle can be read.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = FileLock(journal.with_suffix(".lock"), mode=LOCK_MODE)

    def acquire(self) -> bool:
        self._lock.acquire()
        with open(self._journal, "rb+") as file:
            if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState
