"""Objectives: what a student is asked to minimise, as a weighted list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from nasdistill.component import Facts
from nasdistill.errors import SpecError, UserError, written_at
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdistill.data.base import Shape
    from nasdistill.training.batches import Batch


@dataclass(frozen=True)
class Outputs:
    """A network's outputs for a batch.

    Attributes:
        logits: [N, classes], in single precision.
        features: module path to the activation there, for the points that the objectives asked for.
    """

    logits: torch.Tensor
    features: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Term:
    """An objective bound to one student and one teacher.

    Attributes:
        loss: maps the student's outputs, the teacher's outputs and the batch to the unweighted loss, a scalar. A loss
            with parameters to learn (a regressor, a discriminator, an embedding) is a
            `nasdistill.distill.learned.LearnedLoss`; its parameters are trained, placed and saved beside the student,
            and are no part of what is kept of it.
        student_points: points in the student whose tensors `loss` reads, see `nasdistill.distill.taps`.
        teacher_points: the same in the teacher.
    """

    loss: Callable[[Outputs, Outputs, Batch], torch.Tensor]
    student_points: tuple[str, ...] = ()
    teacher_points: tuple[str, ...] = ()


class Objective(Component):
    """Base of all objectives.

    An objective on logits and labels defines `loss`. One that reads features, or that has parameters of its own,
    defines `bind`.
    """

    replaces_labels: ClassVar[bool] = False
    """Whether the label term that is added by default gives up as much weight as this objective has."""

    needs_training_set: ClassVar[bool] = False
    """Whether it looks at all training images beforehand or remembers them one by one, so that it cannot do without."""

    weighs_images: ClassVar[bool] = False
    """Whether it is a mean over the batch's images with their weights, see `Batch.mean`."""

    needs_classes: ClassVar[bool] = False
    """Whether it reads `batch.labels` as one class for each image, so that images with mixed labels are refused, and
    those without one."""

    needs_labels: ClassVar[bool] = False
    """Whether it has nothing to learn from images without labels, which are refused then."""

    counts_epochs: ClassVar[tuple[str, ...]] = ("warmup",)
    """Options that are numbers of epochs, 0 for none, so that they are refused where there are no epochs."""

    teaches_token: ClassVar[bool] = False
    """Whether it teaches the student's distillation token, which learns nothing from the labels then."""

    of_one_teacher: ClassVar[bool] = False
    """Whether it can learn from no more than one teacher."""

    parts: ClassVar[tuple[str, ...]] = ()
    """Options that weigh the parts of which this objective is the sum; one at least is over 0."""

    weight: float = Field(1.0, ge=0, description="what this term is multiplied by in the sum")
    warmup: float = Field(0.0, ge=0, description="epochs over which the weight rises linearly to its value")

    @model_validator(mode="after")
    def _some_part_counts(self) -> Objective:
        if self.parts and not any(getattr(self, part) for part in self.parts):
            raise SpecError(f"{' and '.join(self.parts)} are 0, so that nothing would be learned", self.parts[:1])
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.weight:
            yield "weight", "it is 0, so that the objective is left out"
        elif 0 < self.warmup <= 1:
            yield "warmup", "the weight rises once an epoch, and is whole in the first"

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        """Fit this objective to a pair of networks, before training. With several teachers it is called for each.

        Args:
            shape: channels, height and width of the images that both networks see.

        Raises:
            UserError: the objective does not apply to these networks, or its class defines neither `bind` nor `loss`.
        """
        if type(self).loss is Objective.loss:
            who = f"the objective {self.registered_name!r} ({written_at(type(self))})"
            raise UserError(f"{who} must define `loss`, or `bind` where it reads features")
        return Term(self.loss)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        """The unweighted loss of a batch, a scalar; `batch.labels` are int64, [N], mixed, or lacking, see `Batch`."""
        raise NotImplementedError(type(self).__name__)

    def report(self, student: Outputs, teacher: Outputs, batch: Batch) -> Mapping[str, torch.Tensor | float]:
        """What there is to show of a batch beside the loss, without gradients: scalars by name, always the same names.

        The curve `objective/name` has their means.
        """
        return {}


OBJECTIVES: Registry[Objective] = Registry("objectives", Objective, "nasdistill.distill.objectives")
