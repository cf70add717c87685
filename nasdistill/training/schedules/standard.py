"""The usual schedules: none, half a cosine, drops at milestones."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from nasdistill.errors import SpecError
from nasdistill.training.schedules import SCHEDULES, Schedule


@SCHEDULES.register("constant")
class Constant(Schedule):
    """The peak learning rate all the way."""

    def factor(self, done: float, epochs: int) -> float:
        return 1.0


@SCHEDULES.register("cosine")
class Cosine(Schedule):
    """Falls along half a cosine from the peak to a floor, without restarts."""

    source: ClassVar[str] = "Loshchilov and Hutter 2017, SGDR (arXiv:1608.03983), eq. 5"

    floor: float = Field(0.0, ge=0, lt=1, description="what the learning rate ends at, as a fraction of its peak")

    def factor(self, done: float, epochs: int) -> float:
        """floor + (1 - floor) (1 + cos(pi done)) / 2."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


_ROUNDING = 1e-9


@SCHEDULES.register("multistep")
class Multistep(Schedule):
    """Multiplied by gamma at each milestone."""

    milestones: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.3, 0.6, 0.8),
        min_length=1,
        description="when it drops: all below 1 as fractions of the training, or all from 1 up as epochs",
    )
    gamma: float = Field(0.2, gt=0, lt=1, description="what each milestone multiplies the learning rate by")

    @model_validator(mode="after")
    def _one_unit(self) -> Multistep:
        if any(m < 1 for m in self.milestones) and any(m >= 1 for m in self.milestones):
            raise SpecError(
                f"milestones are all fractions below 1 or all epochs from 1 up, got {list(self.milestones)}",
                ("milestones",),
            )
        return self

    def factor(self, done: float, epochs: int) -> float:
        """gamma to the number of milestones passed."""
        unit = 1 if self.milestones[0] < 1 else epochs
        return self.gamma ** sum(done * unit >= milestone - _ROUNDING for milestone in self.milestones)

    def check(self, epochs: int) -> None:
        last = max(self.milestones)
        if last >= max(epochs, 1):
            raise SpecError(
                f"the milestone at epoch {last:g} is never reached in {epochs} epochs; "
                "milestones below 1 are fractions of the training",
                ("milestones",),
            )
