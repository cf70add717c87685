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

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return torch.stack([torch.randint(length, (count,), generator=generator) for length in size], dim=1)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        y, x = drawn.unbind(1)
        inside = _band(y, self.size, images.shape[2])[:, :, None] & _band(x, self.size, images.shape[3])[:, None, :]
        return torch.where(inside.to(images.device)[:, None], images.new_zeros(()), images)


def _band(centre: torch.Tensor, size: int, length: int) -> torch.Tensor:
    """Which of the positions 0 .. length - 1 lie in [centre - size/2, centre + size/2); bool, [N, length]."""
    distance = torch.arange(length) - centre[:, None]
    return (distance >= -(size // 2)) & (distance < size // 2)
