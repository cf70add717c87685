"""The student's beliefs are to be the teacher's, by any divergence."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs
from nasdistill.registry import ComponentOf
from nasdistill.training.batches import Batch


@OBJECTIVES.register("divergence")
class BeliefDivergence(Objective):
    """A divergence between the predictions of student and teacher, at temperature 1."""

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), algorithm 1"
    replaces_labels = True

    divergence: Annotated[Any, ComponentOf("divergences")] = Field(
        "kl", validate_default=True, description="which, e.g. l1 or {name: kl, reduction: batchmean}"
    )

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        distance: torch.Tensor = self.divergence.between(student.logits, teacher.logits)
        return distance
