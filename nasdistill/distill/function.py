"""A loss that is a plain function or a module, as an objective."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.objectives import Objective, Outputs, Term
from nasdistill.training.batches import Batch

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps the student's logits and the teacher's, both [N, classes], and the labels to a scalar.

Labels are int64, [N], or where an augmentation mixes them floats, [N, classes].
"""


def objective_of(loss: Loss) -> Objective:
    """The objective of weight 1 that minimises `loss`; a module's own parameters are trained with the student's."""

    class Given(Objective):
        """A loss of the caller's own."""

        def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
            return Term(OfLogits(loss) if isinstance(loss, nn.Module) else self.loss)

        def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            return loss(student.logits, teacher.logits, batch.labels)

    Given.registered_name = getattr(loss, "__name__", type(loss).__name__)
    # Errors name the place of what it wraps.
    setattr(Given, "__wrapped__", loss if isinstance(loss, FunctionType) else type(loss))  # noqa: B010
    return Given()


class OfLogits(nn.Module):
    """A module that reads logits and labels, where outputs and a batch are at hand."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Any:
        return self.module(student.logits, teacher.logits, batch.labels)
