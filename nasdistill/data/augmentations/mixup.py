"""Mixup: each image is blended with another, and so are their labels."""

from __future__ import annotations

from typing import ClassVar

import numpy
import torch
from pydantic import Field

from nasdistill.data.augmentations import AUGMENTATIONS, BatchAugmentation


@AUGMENTATIONS.register("mixup")
class Mixup(BatchAugmentation):
    """x = l*x_i + (1-l)*x_j and y = l*y_i + (1-l)*y_j for two images of a batch, l drawn from Beta(alpha, alpha)."""

    source: ClassVar[str] = "Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization (arXiv:1710.09412), section 2"

    alpha: float = Field(
        0.2, gt=0, description="of Beta(alpha, alpha), which l is drawn from for each image; 1: uniform"
    )

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return beta(self.alpha, count, generator)

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        share = drawn.to(images.device, images.dtype)
        return blended(images, share), blended(targets, share)


def beta(alpha: float, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draws from Beta(alpha, alpha), float64, [count]; torch's own take no generator."""
    seed = int(torch.randint(1 << 62, (), generator=generator))
    return torch.from_numpy(numpy.random.default_rng(seed).beta(alpha, alpha, count))


def blended(values: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """share[n] * values[n] + (1 - share[n]) * values[n - 1], the first with the last; values [N, ...], share [N]."""
    share = share.view(-1, *[1] * (values.dim() - 1))
    return torch.lerp(values.roll(1, 0), values, share)
