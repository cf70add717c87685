"""Without data: a divergence, and something else that a generator may look for."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from nasdistill.distill.divergences import DIVERGENCES, Divergence
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


@DIVERGENCES.register("hellinger")
class Hellinger(Divergence):
    """Half the sum over classes of (sqrt p_s - sqrt p_t)^2: the squared Hellinger distance, 0 to 1."""

    source = "Hellinger (1909), on quadratic forms of infinitely many variables"

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        first, second = (functional.log_softmax(logits, dim=1).div(2).exp() for logits in (student, teacher))
        return (first - second).square().sum(dim=1) / 2


@GENERATOR_LOSSES.register("margin")
class Margin(GeneratorLoss):
    """The gap between the teacher's two likeliest classes, mean over images: images near its decision boundaries."""

    largest: float = Field(10.0, gt=0, description="a gap above this counts as this much")

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        first, second = pseudo.teacher.logits.topk(2, dim=1).values.unbind(dim=1)
        return (first - second).clamp(max=self.largest).mean()
