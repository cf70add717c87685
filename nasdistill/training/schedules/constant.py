"""No schedule."""

from __future__ import annotations

from nasdistill.training.schedules import SCHEDULES, Schedule


@SCHEDULES.register("constant")
class Constant(Schedule):
    """The peak learning rate all the way."""

    def factor(self, done: float, epochs: int) -> float:
        return 1.0
