"""What stages have in common in which one teacher or several teach a student."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from nasdistill.component import Options
from nasdistill.errors import SpecError
from nasdistill.stages.base import Reference
from nasdistill.stages.networks import CommonLabels, Weights

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.distill.teacher import Teacher
    from nasdistill.models.base import NetworkSpec


class TeachingOptions(Options):
    """Options of the stage beside student and teachers."""

    fresh: bool = Field(False, description="draw new weights even where the student comes with trained ones")
    teacher_weights: list[float] | None = Field(
        None, description="weights of several teachers, e.g. [2, 1]; equal if left out"
    )
    average: Literal["probabilities", "logits"] = Field(
        "probabilities", description="what is averaged over several teachers"
    )


class TaughtBy(TeachingOptions):
    """A mixin of stages."""

    student: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        description="who learns: a stage, an artifact's folder, or a model; starts from its trained weights, if any"
    )
    teacher: Annotated[str | list[str], Reference("network")] = Field(
        description="who teaches: a stage or an artifact's folder with a trained network, or a list of several"
    )

    @model_validator(mode="after")
    def _who_teaches_whom(self) -> TaughtBy:
        if not self.teachers:
            raise SpecError("at least one teacher is needed", ("teacher",))
        if self.student in self.teachers and not self.fresh:
            problem = f"the student is its own teacher {self.student!r}; `fresh: true` draws new weights for it"
            raise SpecError(problem, ("teacher",))
        if self.teacher_weights is not None:
            if len(self.teacher_weights) != len(self.teachers):
                problem = f"{len(self.teacher_weights)} weight(s) for {len(self.teachers)} teacher(s)"
                raise SpecError(problem, ("teacher_weights",))
            if min(self.teacher_weights) <= 0:
                raise SpecError("every teacher's weight must be over 0", ("teacher_weights",))
        return self

    @property
    def student_weights(self) -> Weights:
        return "fresh" if self.fresh else "any"

    @property
    def teachers(self) -> list[str]:
        return self.teacher if isinstance(self.teacher, list) else [self.teacher]

    def load_teachers(self, network: Callable[[str, str], tuple[NetworkSpec, nn.Module]]) -> list[Teacher]:
        """The trained teachers with their weights.

        Args:
            network: of a field such as `teacher.0` and its value the spec and the trained network.

        Raises:
            SpecError: two know different classes.
        """
        from nasdistill.distill.teacher import Teacher

        found = []
        common = CommonLabels()
        weights = self.teacher_weights or [1.0] * len(self.teachers)
        for number, (name, weight) in enumerate(zip(self.teachers, weights, strict=True)):
            field = f"teacher.{number}" if isinstance(self.teacher, list) else "teacher"
            spec, module = network(field, name)
            common.add(field, name, spec)
            found.append(Teacher(module, spec.normalisation, weight))
        return found
