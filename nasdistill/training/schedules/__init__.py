"""Learning-rate schedules: pure functions of how much of training is done, so they need no saved state."""

from __future__ import annotations

from nasdistill.registry import Component, Registry


class Schedule(Component):
    """Base of all schedules."""

    def factor(self, done: float, epochs: int) -> float:
        """What the peak learning rate is multiplied by.

        Args:
            done: the fraction of all steps that is done, in [0, 1).
            epochs: of the whole training, for schedules that are given in epochs.
        """
        raise NotImplementedError(type(self).__name__)

    def check(self, epochs: int) -> None:
        """Refuse a training of so many epochs that this schedule does not fit; by default all do.

        Raises:
            SpecError: e.g. a milestone lies behind the end.
        """


SCHEDULES: Registry[Schedule] = Registry("schedules", Schedule, "nasdistill.training.schedules")
