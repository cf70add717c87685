"""A plugin whose stage costs nothing: its score is a parabola of `x`, told step by step as a training tells it."""

import os
import signal
from pathlib import Path

from pydantic import Field

from nasdistill.errors import UserError
from nasdistill.interrupts import leave_if_requested
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Stage
from nasdistill.storage import write_json

PEAK = 3.0


@STAGES.register("parabola")
class Parabola(Stage):
    """90 - (x - 3)^2 percent, half a point less with seed 0 and more with seed 1, reached in three steps.

    Loss and test accuracies are other numbers. It may be killed, fail, or last.
    """

    makes = "metrics"
    reads_data = False

    x: float = Field(description="where the parabola is read")
    killed_once: str | None = Field(None, description="folder that remembers which values were killed before")
    fails_above: float | None = Field(None, description="values beyond this are a mistake of the user")
    seconds: float = Field(0.0, description="time between steps")

    def is_scored(self) -> bool:
        return True

    def score_curve(self) -> str:
        return "validation/accuracy"

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        import time

        if self.fails_above is not None and self.x > self.fails_above:
            raise UserError(f"x is {self.x:g}, beyond {self.fails_above:g}")
        score, loss = 90 - (self.x - PEAK) ** 2 + context.seed - 0.5, (self.x - PEAK) ** 2 / 4
        for step in (1, 2, 3):
            told = {"validation/accuracy": score - 3 + step, "validation/loss": loss + 3 - step, "other": 0.0}
            context.records.scalars(told, step)
            if step == 2:
                self._die()
            for _ in range(int(self.seconds * 10)):
                leave_if_requested()
                time.sleep(0.1)
        write_json(context.folder / "result.json", {"x": self.x, "threads": os.environ.get("OMP_NUM_THREADS")})
        accuracy = {"last": score - 13, "best": score - 11, "selected": score - 12}
        return Outcome({"validation": {"score": score, "loss": loss}, "accuracy": accuracy, "parameters": 7})

    def _die(self) -> None:
        if self.killed_once is None:
            return
        mark = Path(self.killed_once) / f"{self.x}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
