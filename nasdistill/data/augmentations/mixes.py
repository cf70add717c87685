"""Mixup and CutMix: each image gets a part of another, and its label that share of the other's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy
import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.data.augmentations import AUGMENTATIONS, BatchAugmentation
from nasdistill.data.augmentations.standard import in_boxes


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
        share = drawn.to(images.device, images.dtype, non_blocking=True)
        return blended(images, share), blended(targets, share)


def beta(alpha: float, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draws from Beta(alpha, alpha), float64, [count]; torch's own take no generator."""
    seed = int(torch.randint(1 << 62, (), generator=generator))
    return torch.from_numpy(numpy.random.default_rng(seed).beta(alpha, alpha, count))


def blended(values: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """share[n] * values[n] + (1 - share[n]) * values[n - 1], the first with the last; values [N, ...], share [N]."""
    share = share.view(-1, *[1] * (values.dim() - 1))
    return torch.lerp(values.roll(1, 0), values, share)


@AUGMENTATIONS.register("cutmix")
class CutMix(BatchAugmentation):
    """Fill a box of each image from another image of the batch; labels are mixed by the areas that are left of each.

    The box has the share 1 - l of the image, l drawn from Beta(alpha, alpha), and its centre is any pixel; where a
    border cuts it off, labels go by what is left.
    """

    source: ClassVar[str] = "Yun et al. 2019, CutMix (arXiv:1905.04899), section 3.1, and its released code"
    normalised: ClassVar[bool] = False

    alpha: float = Field(
        1.0, gt=0, description="of Beta(alpha, alpha), which l is drawn from for each image; 1: uniform"
    )
    probability: float = Field(1.0, ge=0, le=1, description="share of the images that get a box (0.5 for CIFAR)")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.probability:
            yield "probability", "it is 0, so that no image gets a box"

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        share = beta(self.alpha, count, generator)
        share[torch.rand(count, generator=generator) >= self.probability] = 1
        centres = torch.stack([torch.randint(length, (count,), generator=generator) for length in size], dim=1)
        return boxes(share, centres, size)

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inside = in_boxes(drawn.to(images.device, non_blocking=True), images)
        mixed = torch.where(inside[:, None], images.roll(1, 0), images)
        return mixed, blended(targets, 1 - inside.flatten(1).to(targets.dtype).mean(1))


def boxes(share: torch.Tensor, centres: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Top, left, bottom, right of boxes with the area (1 - share) of an image, cut off at its borders: int64, [N, 4].

    Sides are sqrt(1 - share) of the image's, rounded down, and begin half of that, rounded down, before the centre.

    Args:
        share: what is left of the image, float, [N].
        centres: row and column, int64, [N, 2].
        size: height and width of the image.
    """
    lengths = torch.tensor(size)
    half = (lengths * (1 - share).sqrt()[:, None]).long() // 2
    corners = [(centres + sign * half).clamp(min=0).minimum(lengths) for sign in (-1, 1)]
    return torch.cat(corners, dim=1)
