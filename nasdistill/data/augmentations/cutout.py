"""Cutout: a square of each image becomes the mean colour."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation


@AUGMENTATIONS.register("cutout")
class Cutout(Augmentation):
    """Set a square to the mean colour; its centre is any pixel, so that borders may cut the square off."""

    source: ClassVar[str] = "DeVries and Taylor, Improved Regularization of CNNs with Cutout, 2017"

    size: int = Field(16, ge=2, multiple_of=2, description="side of the square in pixels, even as in the released code")

    def apply(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count, _, height, width = images.shape
        y = torch.randint(height, (count,), generator=generator)
        x = torch.randint(width, (count,), generator=generator)
        inside = _band(y, self.size, height)[:, :, None] & _band(x, self.size, width)[:, None, :]
        return torch.where(inside.to(images.device)[:, None], images.new_zeros(()), images)


def _band(centre: torch.Tensor, size: int, length: int) -> torch.Tensor:
    """Which of the positions 0 .. length - 1 lie in [centre - size/2, centre + size/2); bool, [N, length]."""
    distance = torch.arange(length) - centre[:, None]
    return (distance >= -(size // 2)) & (distance < size // 2)
