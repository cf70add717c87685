"""Mean squared error between the logits."""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.distill.logits import LogitObjective
from nasdistill.distill.objectives import OBJECTIVES


@OBJECTIVES.register("logits-mse")
class LogitsMSE(LogitObjective):
    """Mean over batch and classes of (s - t)^2, of logits, not of probabilities; replaces the labels by default."""

    source = "Ba, Caruana, Do Deep Nets Really Need to be Deep? (2014), equation 1, up to a constant factor"
    replaces_labels = True

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(student, teacher, reduction="none").mean(dim=1)
