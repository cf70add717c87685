"""Images whose neighbouring pixels are alike."""

from __future__ import annotations

import torch
from pydantic import Field

from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


@GENERATOR_LOSSES.register("total-variation")
class TotalVariation(GeneratorLoss):
    """Sum over four directions of the L2 norm of the differences between neighbours: along rows, columns, diagonals.

    Each norm is over the whole batch, as in the released code, so that the loss grows with the root of its size.
    """

    source = "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), and released code"

    weight: float = Field(
        2.5e-5,
        ge=0,
        description="what this term is multiplied by in the sum; in the released code 2.5e-5 for CIFAR-10 with 256 "
        "images, with a remark that 1e-3 looks better, and 1e-4 for ImageNet",
    )

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        images = pseudo.images
        above, below = images[:, :, :-1], images[:, :, 1:]
        differences = (
            images[..., 1:] - images[..., :-1],
            below - above,
            below[..., 1:] - above[..., :-1],
            below[..., :-1] - above[..., 1:],
        )
        return torch.stack([torch.linalg.vector_norm(difference) for difference in differences]).sum()
