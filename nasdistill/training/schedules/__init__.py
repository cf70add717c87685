"""Learning-rate schedules: pure functions of the fraction of training that is done, so they need no saved state."""

from __future__ import annotations

from nasdistill.registry import Component, Registry


class Schedule(Component):
    """Base of all schedules."""

    def factor(self, done: float) -> float:
        """What the peak learning rate is multiplied by when the fraction `done` in [0, 1) of all steps is done."""
        raise NotImplementedError(type(self).__name__)


SCHEDULES: Registry[Schedule] = Registry("schedules", Schedule, "nasdistill.training.schedules")
