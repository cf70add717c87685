"""Objectives: what a student is asked to minimise, as a weighted list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdistill.data.base import Shape


@dataclass(frozen=True)
class Outputs:
    """What a network said about a batch.

    Attributes:
        logits: [N, classes].
        features: module path to the activation there, for the points that the objectives asked for.
    """

    logits: torch.Tensor
    features: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Term:
    """An objective bound to one student and one teacher.

    Attributes:
        loss: maps the student's outputs, the teacher's outputs and the labels, int64 [N], to the unweighted loss, a
            scalar. A loss with parameters to learn (a regressor, an embedding) is an `nn.Module`; they are trained,
            placed and saved along with the student.
        student_points: module paths in the student whose outputs `loss` reads.
        teacher_points: the same in the teacher.
    """

    loss: Callable[[Outputs, Outputs, torch.Tensor], torch.Tensor]
    student_points: tuple[str, ...] = ()
    teacher_points: tuple[str, ...] = ()


class Objective(Component):
    """Base of all objectives.

    An objective on logits and labels defines `loss`. One that reads features, or that has parameters of its own,
    defines `bind`.
    """

    replaces_labels: ClassVar[bool] = False
    """Whether the label term that is added by default gives up as much weight as this objective has."""

    weight: float = Field(1.0, ge=0, description="what this term is multiplied by in the sum")

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        """Fit this objective to a pair of networks, before training.

        Args:
            shape: channels, height and width of the images that both networks see.

        Raises:
            UserError: the objective does not apply to these networks.
        """
        return Term(self.loss)

    def loss(self, student: Outputs, teacher: Outputs, labels: torch.Tensor) -> torch.Tensor:
        """The unweighted loss of a batch, a scalar; `labels` is int64, [N]."""
        raise NotImplementedError(type(self).__name__)


OBJECTIVES: Registry[Objective] = Registry("objectives", Objective, "nasdistill.distill.objectives")
