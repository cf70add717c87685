"""Born-again networks: the student learns from its teacher's outputs, without labels."""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.distill.logits import LogitObjective
from nasdistill.distill.objectives import OBJECTIVES


@OBJECTIVES.register("ban")
class BornAgain(LogitObjective):
    """Cross-entropy with the teacher's probabilities, mean over the batch, in place of the labels.

    No temperature. The gradients are those of `{name: kd, temperature: 1}`, whose value is smaller by the teacher's
    entropy; `kd` and `logits-mse` are the usual alternatives. Of a weight under 1 the rest is left to the labels.
    """

    source = "Furlanello et al., Born-Again Neural Networks (2018), section 3"
    replaces_labels = True

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(student, teacher.softmax(dim=1), reduction="none")
