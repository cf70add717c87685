"""Images that stay near to the mean of the data."""

from __future__ import annotations

import torch
from pydantic import Field

from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


@GENERATOR_LOSSES.register("l2")
class Length(GeneratorLoss):
    """The L2 norm of an image, normalised as the teacher reads it; mean over images."""

    source = "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), and released code"

    weight: float = Field(
        1e-5,
        ge=0,
        description="what this term is multiplied by in the sum; released code: 1e-5 for ImageNet, 0 for CIFAR-10",
    )

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        lengths: torch.Tensor = torch.linalg.vector_norm(pseudo.images.flatten(1), dim=1)
        return lengths.mean()
