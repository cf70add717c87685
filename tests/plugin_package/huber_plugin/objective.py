"""An objective, offered by entry point."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from nasdistill.distill.objectives import Objective, Outputs
from nasdistill.training.batches import Batch


class Huber(Objective):
    """Huber loss between the logits."""

    source = "Huber 1964, Robust Estimation of a Location Parameter"
    replaces_labels = True

    delta: float = Field(1.0, gt=0, description="where the loss turns from quadratic to linear")

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return functional.huber_loss(student.logits, teacher.logits, delta=self.delta)
