"""Random crop of the padded image."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.errors import UserError


@AUGMENTATIONS.register("crop")
class Crop(Augmentation):
    """Pad each side, then cut a window of the old size at a place drawn uniformly for each image."""

    source: ClassVar[str] = "Lee et al., Deeply-Supervised Nets, 2015; reflection: Zagoruyko and Komodakis, WRN, 2016"
    normalised: ClassVar[bool] = False

    padding: int = Field(4, ge=1, description="pixels added to each side")
    border: Literal["zero", "reflect"] = Field(
        "zero", description="what is added: zeros (black), or the image mirrored at its outermost pixels"
    )

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        if self.border == "reflect" and self.padding >= min(size):
            raise UserError(
                f"crop cannot mirror {self.padding} pixels of images that are {min(size)} pixels wide or high"
            )
        return torch.randint(2 * self.padding + 1, (2, count), generator=generator).T - self.padding

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        top, left = drawn.to(images.device).unbind(1)
        return shift(images, top, left, self.border)


def shift(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, border: str) -> torch.Tensor:
    """Windows of the images' own size: out[n, c, y, x] = images[n, c, y + top[n], x + left[n]].

    Args:
        images: [N, C, H, W], any type.
        top, left: int64, [N]; with border "reflect" smaller than the image.
        border: beyond the image stand zeros, or with "reflect" its mirror image, the outermost pixels not doubled.
    """
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device) + top[:, None]
    columns = torch.arange(width, device=images.device) + left[:, None]
    beyond = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    if border == "reflect":
        rows, columns = _reflected(rows, height), _reflected(columns, width)
    else:
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
    moved = images.flatten(2).gather(2, pixels).view(images.shape)
    if border == "zero":
        moved.masked_fill_(beyond[:, None], 0)
    return torch.empty_like(images).copy_(moved) if moved.stride() != images.stride() else moved


def _reflected(positions: torch.Tensor, size: int) -> torch.Tensor:
    """Positions -1, -2, ... and size, size + 1, ... become 1, 2, ... and size - 2, size - 3, ..."""
    return (size - 1) - ((size - 1) - positions.abs()).abs()
