"""Random horizontal flip."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation


@AUGMENTATIONS.register("flip")
class Flip(Augmentation):
    """Mirror an image left to right with a probability, drawn for each image."""

    source: ClassVar[str] = "Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep CNNs, 2012"
    normalised: ClassVar[bool] = False

    probability: float = Field(0.5, ge=0, le=1, description="share of the images that are mirrored")

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return torch.rand(count, generator=generator) < self.probability

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return torch.where(drawn.to(images.device)[:, None, None, None], images.flip(3), images)
