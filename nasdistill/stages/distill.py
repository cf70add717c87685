"""Stage `distill`: train a student on labels and on what a teacher says and attends to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from nasdistill.artifacts import Artifact
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Outcome, Reference, Stage
from nasdistill.stages.training import network_for_data, train_task
from nasdistill.training.settings import TrainingSettings


@STAGES.register("distill")
class Distill(TrainingSettings, Stage):
    """Train a student on the labels and on a frozen teacher; the artifact holds the student alone.

    Objectives are a weighted list. Where it holds no `cross-entropy`, the labels keep the weight 1 - (sum of the
    weights of the objectives that replace them, such as `kd`): `kd` of weight a trains on the published
    (1-a)*CE + a*T^2*KL, `attention` alone on CE + beta*AT, both on (1-a)*CE + a*T^2*KL + beta*AT. A listed
    `{name: cross-entropy, weight: ...}` has the last word. The resolved sum is logged.
    """

    source = "Hinton, Vinyals, Dean 2015; Zagoruyko, Komodakis 2017"
    makes = "network"

    student: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        description="who learns: a stage, an artifact's folder, or a model; starts from its trained weights, if any"
    )
    teacher: Annotated[str, Reference("network")] = Field(
        description="who teaches: a stage or an artifact's folder with a trained network"
    )
    objectives: list[Annotated[Any, ComponentOf("objectives")]] = Field(
        ["kd"],
        min_length=1,
        validate_default=True,
        description="what the student minimises, e.g. [{name: kd, temperature: 4, weight: 0.9}, attention]",
    )

    @model_validator(mode="after")
    def _label_term_is_clear(self) -> Distill:
        self._with_label_term()
        if self.student == self.teacher:
            raise SpecError(f"the student is its own teacher {self.teacher!r}", ("teacher",))
        return self

    def _with_label_term(self) -> list[Any]:
        from nasdistill.distill.task import with_label_term

        return with_label_term(self.objectives, self.label_smoothing)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> Outcome:
        from nasdistill.distill.task import Distillation, renormalisation

        # The teacher first, so that the student is drawn from the seed alone.
        teacher_spec, teacher, trained = network_for_data("teacher", self.teacher, inputs, context)
        if not trained:
            raise SpecError(f"the teacher {self.teacher!r} has no trained weights to teach from", ("teacher",))
        spec, student, _ = network_for_data("student", self.student, inputs, context)
        task = Distillation(
            student,
            teacher,
            self._with_label_term(),
            spec.shape,
            renormalise=renormalisation(context.data.normalisation, teacher_spec.normalisation),
            auxiliary_weight=self.auxiliary_weight,
            label_smoothing=self.label_smoothing,
        )
        return train_task(task, spec, self, context)
