"""Cross-entropy with the labels."""

from __future__ import annotations

import torch
from pydantic import Field

from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs
from nasdistill.training.batches import Batch
from nasdistill.training.tasks import label_loss


@OBJECTIVES.register("cross-entropy")
class CrossEntropy(Objective):
    """Cross-entropy of the student with the labels, mean over the batch; the label term where it is not implied."""

    source = "Goodfellow, Bengio, Courville, Deep Learning (2016), section 6.2.1"
    weighs_images = True

    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that is spread over all classes (Szegedy et al. 2016)"
    )

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return label_loss(student.logits, batch, self.label_smoothing)
