"""The Jensen-Shannon divergence between the student's beliefs and the teacher's."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from nasdistill.distill.divergences import DIVERGENCES, Divergence


@DIVERGENCES.register("jensen-shannon")
class JensenShannon(Divergence):
    """JS(p_s, p_t) = (KL(p_s || m) + KL(p_t || m)) / 2 with m = (p_s + p_t) / 2, in nats.

    Symmetric, and at most log 2 for an image, however sure the two are: unlike KL, a generator cannot make it grow
    without bound.
    """

    source = (
        "Lin, Divergence Measures Based on the Shannon Entropy (1991); temperature: released code of Yin et "
        "al., Dreaming to Distill (2020)"
    )

    temperature: float = Field(
        1.0, gt=0, description="T, which softens the probabilities of both; the code of Adaptive DeepInversion has 3"
    )

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        ours, theirs = ((logits / self.temperature).log_softmax(dim=1) for logits in (student, teacher))
        middle = torch.logaddexp(ours, theirs) - math.log(2)
        nats = ours.exp() * (ours - middle) + theirs.exp() * (theirs - middle)
        return nats.sum(dim=1) / 2
