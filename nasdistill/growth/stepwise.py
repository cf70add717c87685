"""Stepwise growth: the loop that all growth rules share, and their contract."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from nasdistill.errors import UserError, unknown, written_at
from nasdistill.growth.methods import Grown, GrowthMethod
from nasdistill.growth.plan import growable, record, steps_to, widths_of, with_model
from nasdistill.growth.student import Student
from nasdistill.models.base import NetworkSpec

log = logging.getLogger(__name__)


class Stepwise(GrowthMethod):
    """Base of the methods that widen one unit after the other."""

    step: float = Field(0.2, gt=0, le=1, description="channels that a step adds, as a fraction of the unit's")
    widest: float = Field(4.0, gt=1, description="largest width of a unit, as a multiple of its width in the student")

    @property
    def how(self) -> str:
        """The method in words, for error messages."""
        return f"widening units up to {self.widest:g} times"

    def most(self, spec: NetworkSpec) -> dict[str, int]:
        """The maximum width of each unit."""
        return {
            unit.name: int(self.widest * unit.width) // unit.multiple * unit.multiple for unit in growable(spec).units()
        }

    def reason_to_refuse(self, spec: NetworkSpec) -> str | None:
        reason = super().reason_to_refuse(spec)
        if reason is not None:
            return reason
        largest = with_model(spec, growable(spec).with_widths(self.most(spec)))
        return self.target(spec).reason_too_small(largest, self.how)


class GrowthRule(Stepwise):
    """Base of the methods that widen the unit of the highest score by a step, score again, and so on.

    A rule defines `scores`. Weights are carried by function-preserving widening, so each scoring uses the grown
    network.
    """

    measures: ClassVar[bool] = True

    rescore: int = Field(1, gt=0, description="steps between two scorings")
    noise: float = Field(
        1e-3,
        ge=0,
        description="noise on copied weights while widths are found, as a fraction of the weight's standard deviation; "
        "what `warm` hands over has 0.001 of it in any case",
    )

    def reason_to_refuse(self, spec: NetworkSpec) -> str | None:
        return super().reason_to_refuse(spec) or self.reason_not_to_carry(spec)

    def scores(self, student: Student) -> Mapping[str, float]:
        """One score per unit, by its name; the highest grows next.

        Args:
            student: spec and network as grown so far; the network must not be changed.
        """
        raise NotImplementedError(type(self).__name__)

    def grow(self, student: Student) -> Grown:
        import torch

        from nasdistill.growth.importance import estimate_statistics, is_trained
        from nasdistill.growth.widening import widen

        spec, target, checkpoints = student.spec, self.target(student.spec), student.checkpoints
        most = self.most(spec)
        generator = torch.Generator().manual_seed(student.seed)
        steps: list[dict[str, Any]] = []
        before: list[float] = []
        scores: list[float] = []
        done = False
        state = checkpoints.load()
        if state is not None:
            widths = dict(zip(widths_of(spec), state["widths"], strict=True))
            student = student.restored(with_model(spec, growable(spec).with_widths(widths)), state["weights"])
            steps, before, scores, done = state["steps"], state["before"], state["scores"], state["done"]
            generator.set_state(state["generator"])
        else:
            student = replace(student, network=copy.deepcopy(student.network))
            if not is_trained(student.network):
                estimate_statistics(student.network, student.batches, student.engine)

        def capture() -> dict[str, Any]:
            return {
                "widths": list(widths_of(student.spec).values()),
                "weights": student.network.state_dict(),
                "generator": generator.get_state(),
                "steps": steps,
                "before": before,
                "scores": scores,
                "done": done,
            }

        def order() -> Sequence[str]:
            nonlocal before, scores
            if len(steps) % self.rescore == 0:
                scores = self._checked_scores(student)
                before = before or scores
                reported = {f"importance/{unit}": score for unit, score in zip(most, scores, strict=True)}
                student.records.scalars(reported, len(steps))
            return sorted(most, key=dict(zip(most, scores, strict=True)).__getitem__, reverse=True)

        for step in () if done else steps_to(target, student.spec, most, self.step, order):
            width = widths_of(step.spec)[step.unit]
            grown = widen(student.spec, student.network, step.unit, width, noise=self.noise, generator=generator)
            student = replace(student, spec=grown[0], network=grown[1])
            done = step.last
            steps.append({"unit": step.unit, **record(student.spec, target), "importance": scores})
            log.info("%s: %d channels; %.3f times the size of the student", step.unit, width, steps[-1]["ratio"])
            checkpoints.step(len(steps), capture)
        target.checked(student.spec, self.how)
        return Grown(student.spec, steps, {"before": before, "after": self._checked_scores(student)})

    def _checked_scores(self, student: Student) -> list[float]:
        """The rule's scores, in the order of the units.

        Raises:
            UserError: they are not one finite number for each unit; names the rule and its file.
        """
        scores, units = self.scores(student), list(widths_of(student.spec))
        problem = None
        if not isinstance(scores, Mapping):
            problem = f"returned {type(scores).__name__}, not a mapping of the names of units to numbers"
        elif unexpected := [name for name in scores if name not in units]:
            problem = f"scored an {unknown('unit', str(unexpected[0]), units)}"
        elif missing := [name for name in units if name not in scores]:
            problem = f"gave {len(scores)} scores for {len(units)} units: that of {missing[0]!r} is missing"
        else:
            values = [_number(scores[name]) for name in units]
            if all(map(math.isfinite, values)):
                return values
            name = next(name for name, value in zip(units, values, strict=True) if not math.isfinite(value))
            problem = f"scored {name!r} with {scores[name]!r}, which is not a finite number"
        raise UserError(f"the growth rule {type(self).__name__} {problem} ({written_at(type(self))})")


def _number(score: Any) -> float:
    """A score as a number; NaN if it is not one."""
    try:
        return float(score)
    except (TypeError, ValueError, RuntimeError):  # text, or a tensor of several values
        return math.nan
