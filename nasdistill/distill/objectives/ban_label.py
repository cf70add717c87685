"""Born-again networks that learn from the labels as well."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.ban import BornAgain


@OBJECTIVES.register("ban+label")
class BornAgainWithLabels(BornAgain):
    """Cross-entropy with the teacher's probabilities plus that with the labels, mean over the batch."""

    source = "Furlanello et al., Born-Again Neural Networks (2018), section 3: BAN+L"

    ground_truth: float = Field(1.0, ge=0, description="weight of the labels, beside 1 for the teacher")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        taught = super().distance(student, teacher, labels)
        return taught + self.ground_truth * functional.cross_entropy(student, labels, reduction="none")
