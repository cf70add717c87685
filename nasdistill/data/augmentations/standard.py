"""The usual augmentations of single images: flip, crop, cutout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.errors import UserError

Border = Literal["zero", "reflect", "nearest"]
"""What stands beyond an image: zeros, its mirror image with the outermost pixels not doubled, or the outermost pixels.

Zeros are black in bytes, and the mean colour in normalised images.
"""


@AUGMENTATIONS.register("flip")
class Flip(Augmentation):
    """Mirror an image left to right with a probability, drawn for each image."""

    source: ClassVar[str] = "Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep CNNs, 2012"
    normalised: ClassVar[bool] = False

    probability: float = Field(0.5, ge=0, le=1, description="share of the images that are mirrored")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.probability:
            yield "probability", "it is 0, so that no image is mirrored"

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return torch.rand(count, generator=generator) < self.probability

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return torch.where(drawn.to(images.device, non_blocking=True)[:, None, None, None], images.flip(3), images)


@AUGMENTATIONS.register("crop")
class Crop(Augmentation):
    """Pad each side, then cut a window of the old size at a place drawn uniformly for each image."""

    source: ClassVar[str] = "Lee et al., Deeply-Supervised Nets, 2015; reflection: Zagoruyko and Komodakis, WRN, 2016"
    normalised: ClassVar[bool] = False

    padding: int = Field(4, ge=1, description="pixels added to each side")
    border: Border = Field(
        "zero",
        description="what is added: zeros, the image mirrored at its outermost pixels, or those repeated; zeros are "
        "black, or the mean colour behind an augmentation of normalised images",
    )

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        if self.border == "reflect" and self.padding >= min(size):
            raise UserError(
                f"crop cannot mirror {self.padding} pixels of images that are {min(size)} pixels wide or high"
            )
        if self.border == "zero" and 1 in size:
            raise UserError(
                f"crop would move most images of {size[0]}x{size[1]} out of sight, as they have a single row or "
                "column; `shift` moves them along it"
            )
        return torch.randint(2 * self.padding + 1, (2, count), generator=generator).T - self.padding

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        top, left = drawn.to(images.device, non_blocking=True).unbind(1)
        return shift(images, top, left, self.border)


def shift(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, border: Border) -> torch.Tensor:
    """Windows of the images' own size: out[n, c, y, x] = images[n, c, y + top[n], x + left[n]].

    Args:
        images: [N, C, H, W], any type.
        top, left: int64, [N]; with border "reflect" smaller than the image.
    """
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device) + top[:, None]
    columns = torch.arange(width, device=images.device) + left[:, None]
    beyond = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    if border == "reflect":
        rows, columns = reflected(rows, height), reflected(columns, width)
    else:
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
    moved = images.flatten(2).gather(2, pixels).view(images.shape)
    if border == "zero":
        moved.masked_fill_(beyond[:, None], 0)
    return like(images, moved)


def like(images: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """The changed images in the memory format of those that they were made of."""
    return torch.empty_like(images).copy_(changed) if changed.stride() != images.stride() else changed


def reflected(positions: torch.Tensor, size: int) -> torch.Tensor:
    """Positions -1, -2, ... and size, size + 1, ... become 1, 2, ... and size - 2, size - 3, ..."""
    return (size - 1) - ((size - 1) - positions.abs()).abs()


@AUGMENTATIONS.register("cutout")
class Cutout(Augmentation):
    """Set a square to the mean colour; its centre is any pixel, so that borders may cut the square off."""

    source: ClassVar[str] = "DeVries and Taylor, Improved Regularization of CNNs with Cutout, 2017"

    size: int = Field(16, ge=2, multiple_of=2, description="side of the square in pixels, even as in the released code")

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        if self.size // 2 >= max(size):
            raise UserError(
                f"a cutout of {self.size} pixels covers all of an image of {size[0]}x{size[1]} wherever it is"
            )
        return torch.stack([torch.randint(length, (count,), generator=generator) for length in size], dim=1)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        half = self.size // 2
        inside = in_boxes(torch.cat([drawn - half, drawn + half], dim=1).to(images.device, non_blocking=True), images)
        return torch.where(inside[:, None], images.new_zeros(()), images)


def in_boxes(boxes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Which pixels of images [N, C, H, W] lie in boxes: bool, [N, H, W].

    Args:
        boxes: top, left, bottom and right, the latter two the first beyond: int64, [N, 4], on the images' device.
    """
    rows, columns = (
        (places >= boxes[:, at, None]) & (places < boxes[:, at + 2, None])
        for at, places in enumerate(torch.arange(side, device=images.device) for side in images.shape[2:])
    )
    return rows[:, :, None] & columns[:, None, :]
