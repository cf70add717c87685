"""Half a cosine."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from nasdistill.training.schedules import SCHEDULES, Schedule


@SCHEDULES.register("cosine")
class Cosine(Schedule):
    """Falls along half a cosine from the peak to a floor, without restarts."""

    source: ClassVar[str] = "Loshchilov and Hutter 2017, SGDR (arXiv:1608.03983), eq. 5"

    floor: float = Field(0.0, ge=0, lt=1, description="what the learning rate ends at, as a fraction of its peak")

    def factor(self, done: float, epochs: int) -> float:
        """floor + (1 - floor) (1 + cos(pi done)) / 2."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2
