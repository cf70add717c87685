"""One cycle of straight lines: up to the peak early, and down from it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nasdistill.training.schedules import SCHEDULES, Schedule


@SCHEDULES.register("triangular")
class Triangular(Schedule):
    """Rises along a line from a start to the peak, and falls along another to an end.

    For trainings of few epochs, with a higher peak than cosine takes.
    """

    source: ClassVar[str] = "Smith and Topin 2018, Super-Convergence (arXiv:1708.07120), section 3"

    peak: float = Field(0.2, gt=0, lt=1, description="where the peak is, as a fraction of the training")
    start: float = Field(0.2, ge=0, le=1, description="what the learning rate begins at, as a fraction of its peak")
    end: float = Field(0.0, ge=0, le=1, description="what it ends at, as a fraction of its peak")

    def factor(self, done: float, epochs: int) -> float:
        """Linear from `start` at 0 to 1 at `peak`, and from there to `end` at 1."""
        if done < self.peak:
            return self.start + (1 - self.start) * done / self.peak
        return 1 - (1 - self.end) * (done - self.peak) / (1 - self.peak)
