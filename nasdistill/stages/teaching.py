"""What stages have in common in which one teacher or several teach a student."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from nasdistill.component import Facts, Options
from nasdistill.errors import SpecError, found_at
from nasdistill.stages.base import Place, Reference
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.networks import Weights

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.distill.objectives import Objective
    from nasdistill.distill.teacher import Teacher
    from nasdistill.models.base import NetworkSpec


class TeachingOptions(MatchesClasses):
    """Options of the stage beside student and teachers."""

    teacher_weights: list[float] | None = Field(
        None, description="weights of several teachers, e.g. [2, 1]; equal if left out"
    )
    average: Literal["probabilities", "logits"] = Field(
        "probabilities", description="what is averaged over several teachers"
    )


class FreshOptions(Options):
    """Options of the stages whose student may be new or trained."""

    fresh: bool = Field(False, description="draw new weights even where the student comes with trained ones")


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
        if self.teacher_weights is not None:
            if len(self.teacher_weights) != len(self.teachers):
                problem = f"{len(self.teacher_weights)} weight(s) for {len(self.teachers)} teacher(s)"
                raise SpecError(problem, ("teacher_weights",))
            if min(self.teacher_weights) <= 0:
                raise SpecError("every teacher's weight must be over 0", ("teacher_weights",))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if len(self.teachers) == 1:
            for name in self.differs("teacher_weights", "average"):
                yield name, "there is one teacher"

    @property
    def student_weights(self) -> Weights:
        """Which weights the student begins with."""
        raise NotImplementedError(type(self).__name__)

    @property
    def teachers(self) -> list[str]:
        return self.teacher if isinstance(self.teacher, list) else [self.teacher]

    @property
    def teacher_fields(self) -> list[tuple[Place, str]]:
        """The place of each teacher, and what stands there."""
        if isinstance(self.teacher, str):
            return [("teacher", self.teacher)]
        return [(("teacher", number), name) for number, name in enumerate(self.teacher)]

    def foresee_pair(
        self, objectives: Sequence[Objective], spec_of: Callable[[Place, str | dict[str, Any]], NetworkSpec | None]
    ) -> NetworkSpec | None:
        """The student's spec, if it is known, checked against the teachers and the objectives, as far as those are.

        Args:
            spec_of: of a field and its value the spec, checked by itself.

        Raises:
            SpecError: an objective does not fit the pair.
        """
        from nasdistill.distill.foresight import check_pair

        teachers = [spec_of(field, name) for field, name in self.teacher_fields]
        student = spec_of("student", self.student)
        known = [teacher for teacher in teachers if teacher is not None]
        if student is not None and len(known) == len(teachers):
            with found_at("objectives"):
                check_pair(objectives, student, known)
        return student

    def load_teachers(self, network: Callable[[Place, str], tuple[NetworkSpec, nn.Module]]) -> list[Teacher]:
        """The trained teachers with their weights.

        Args:
            network: of a place and its value the spec and the trained network.
        """
        from nasdistill.distill.teacher import Teacher

        found = []
        weights = self.teacher_weights or [1.0] * len(self.teachers)
        for (field, name), weight in zip(self.teacher_fields, weights, strict=True):
            spec, module = network(field, name)
            found.append(Teacher(module, spec.normalisation, weight))
        return found


class FromAnyWeights(FreshOptions, TaughtBy):
    """A mixin of stages whose student may be new or trained."""

    @model_validator(mode="after")
    def _has_another_teacher(self) -> FromAnyWeights:
        if self.student in self.teachers and not self.fresh:
            problem = f"the student is its own teacher {self.student!r}; `fresh: true` draws new weights for it"
            raise SpecError(problem, ("teacher",))
        return self

    @property
    def student_weights(self) -> Weights:
        return "fresh" if self.fresh else "any"
