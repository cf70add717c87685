"""Slant images."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.data.augmentations.geometric import INTERPOLATED_BORDER, bilinear, offsets, uniform
from nasdistill.data.augmentations.standard import Border


@AUGMENTATIONS.register("shear")
class Shear(Augmentation):
    """Slant an image, its rows shifted against each other, by an angle drawn from [-degrees, degrees]; bilinearly."""

    source: ClassVar[str] = "Keras, ImageDataGenerator: shear_range; torchvision.transforms.v2.RandomAffine: shear"

    degrees: float = Field(10.0, gt=0, lt=90, description="largest angle, to the left and to the right")
    border: Border = Field("nearest", description=INTERPOLATED_BORDER)

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return uniform((count,), self.degrees, generator)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """With offsets (y, x) from the centre, out(y, x) = in(y, x + y tan a) for the angle a of each image."""
        down, right = offsets(images)
        slant = drawn.deg2rad().tan().to(images.device, non_blocking=True)[:, None, None]
        return bilinear(images, down.expand(len(images), -1, -1), right + down * slant, self.border)
