"""Views from elsewhere: rotation, shift and zoom."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch.nn import functional

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.data.augmentations.standard import Border, like, shift
from nasdistill.errors import UserError

PADDING: dict[Border, str] = {"zero": "zeros", "reflect": "reflection", "nearest": "border"}
INTERPOLATED_BORDER = "what stands beyond the image: its outermost pixels, the image mirrored there, or the mean colour"


@AUGMENTATIONS.register("rotation")
class Rotation(Augmentation):
    """Turn an image about its centre by an angle drawn uniformly from [-degrees, degrees], bilinearly."""

    source: ClassVar[str] = "Simard, Steinkraus and Platt 2003, Best Practices for CNNs Applied to Document Analysis"

    degrees: float = Field(10.0, gt=0, le=180, description="largest angle, to the left and to the right")
    border: Border = Field("nearest", description=INTERPOLATED_BORDER)

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return uniform((count,), self.degrees, generator)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return rotated(images, drawn, self.border)


def rotated(images: torch.Tensor, degrees: torch.Tensor, border: Border) -> torch.Tensor:
    """Images turned counter-clockwise about their centres.

    With offsets (y, x) from the centre, out(y, x) = in(x sin a + y cos a, x cos a - y sin a).

    Args:
        images: float, [N, C, H, W].
        degrees: the angle a of each, float, [N].
    """
    angle = degrees.to(images.device, non_blocking=True)[:, None, None] * (math.pi / 180)
    down, right = offsets(images)
    return bilinear(images, right * angle.sin() + down * angle.cos(), right * angle.cos() - down * angle.sin(), border)


@AUGMENTATIONS.register("zoom")
class Zoom(Augmentation):
    """Scale an image about its centre, keeping its size, by a factor drawn uniformly from [1 - amount, 1 + amount].

    What is read is scaled: factors over 1 show more than the image, those below show its middle; bilinearly.
    """

    source: ClassVar[str] = "Keras, ImageDataGenerator: zoom_range"

    amount: float = Field(0.1, gt=0, lt=1, description="largest difference of the factor from 1")
    proportional: bool = Field(True, description="one factor for both sides; if false, each side has one of its own")
    border: Border = Field("nearest", description=INTERPOLATED_BORDER)

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return 1 + uniform((count, 1 if self.proportional else 2), self.amount, generator).expand(-1, 2)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return zoomed(images, drawn, self.border)


def zoomed(images: torch.Tensor, factors: torch.Tensor, border: Border) -> torch.Tensor:
    """With offsets (y, x) from the centre, out(y, x) = in(f y, g x) for the factors (f, g) of each image, [N, 2]."""
    vertical, horizontal = factors.to(images.device, non_blocking=True)[:, :, None, None].unbind(1)
    down, right = offsets(images)
    return bilinear(images, down * vertical, right * horizontal, border)


@AUGMENTATIONS.register("shift")
class Shift(Augmentation):
    """Move an image by whole pixels, drawn uniformly for each direction; `crop` does so by a number of pixels."""

    source: ClassVar[str] = "Keras, ImageDataGenerator: height_shift_range and width_shift_range"
    normalised: ClassVar[bool] = False

    amount: float = Field(
        0.1, gt=0, lt=1, description="largest shift, as a share of the height and of the width, rounded to pixels"
    )
    border: Border = Field(
        "nearest",
        description="what moves in: the outermost pixels, the image mirrored there, or zeros, which are black, or the "
        "mean colour behind an augmentation of normalised images",
    )

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        most = [min(round(self.amount * length), length - 1) for length in size]
        if not any(most):
            raise UserError(f"shift by {self.amount:g} of images of {size[0]}x{size[1]} is less than a pixel")
        return torch.stack([torch.randint(-n, n + 1, (count,), generator=generator) for n in most], dim=1)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        top, left = drawn.to(images.device, non_blocking=True).unbind(1)
        return shift(images, top, left, self.border)


def uniform(shape: tuple[int, ...], most: float, generator: torch.Generator) -> torch.Tensor:
    """Draws from [-most, most)."""
    return most * (2 * torch.rand(shape, generator=generator) - 1)


def offsets(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far down and to the right of the centre the pixels lie, [1, H, 1] and [1, 1, W]."""
    height, width = images.shape[2:]
    down, right = (torch.arange(n, device=images.device) - (n - 1) / 2 for n in (height, width))
    return down[None, :, None], right[None, None, :]


def bilinear(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor, border: Border) -> torch.Tensor:
    """What images show at these offsets from their centres, each [N, H, W], between the four pixels around."""
    height, width = images.shape[2:]
    # torch mirrors at the outermost pixels themselves only where these are the ends of its coordinates, -1 and 1
    ends = border == "reflect"
    grid = [(2 * at / max(size - ends, 1)).expand(-1, height, width) for at, size in ((right, width), (down, height))]
    where = torch.stack(grid, dim=3).to(images.dtype)
    return like(images, functional.grid_sample(images, where, "bilinear", PADDING[border], align_corners=ends))
