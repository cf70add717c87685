"""Crops of random size, back at the size of the image."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch.nn import functional

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.data.augmentations.ranges import Range, between
from nasdistill.data.augmentations.standard import like
from nasdistill.errors import SpecError, UserError

TRIES = 10
"""Boxes that are drawn for an image; if none lies within it, the middle is taken."""


def random_boxes(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes with a uniform share of the image's area, and a side ratio whose logarithm is uniform.

    Args:
        size: height and width of the image.
        scale, ratio: the ranges of both; the ratio is width by height.

    Returns:
        top, left, height, width: int64, [N, 4], the first of `TRIES` that lies within the image; and whether there is
        one, bool, [N]. Where there is none, the box is of no use.

    Raises:
        UserError: the images have a single row or column, in which a box has no side ratio.
    """
    if 1 in size:
        raise UserError(
            f"random-resized-crop and erasing cut boxes out of images, and those of {size[0]}x{size[1]} have a single "
            "row or column; `shift` and `cutout` are for these too"
        )
    draws = torch.rand(4, count, TRIES, generator=generator, dtype=torch.float64)
    area = size[0] * size[1] * between(scale, draws[0])
    by = between((math.log(ratio[0]), math.log(ratio[1])), draws[1]).exp()
    height, width = (area / by).sqrt().round().long(), (area * by).sqrt().round().long()
    within = (height > 0) & (width > 0) & (height <= size[0]) & (width <= size[1])
    top, left = ((draws[2 + at] * (size[at] - side + 1)).long() for at, side in enumerate((height, width)))
    first = within.int().argmax(1)[:, None, None].expand(-1, 1, 4)
    return torch.stack([top, left, height, width], dim=2).gather(1, first)[:, 0], within.any(1)


@AUGMENTATIONS.register("random-resized-crop")
class RandomResizedCrop(Augmentation):
    """Cut out a part of random area and side ratio, and scale it to the size of the image, bilinearly."""

    source: ClassVar[str] = (
        "Szegedy et al. 2015, Going Deeper with Convolutions (arXiv:1409.4842), section 6; "
        "torchvision.transforms.v2.RandomResizedCrop"
    )
    normalised: ClassVar[bool] = False

    scale: Range = Field((0.08, 1.0), description="smallest and largest share of the image's area")
    ratio: Range = Field((3 / 4, 4 / 3), description="smallest and largest width by height")

    @field_validator("scale")
    @classmethod
    def _share(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[1] > 1:
            raise SpecError(f"is a share of the image's area, at most 1, got {scale[1]:g}")
        return scale

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        """Top, left, height, width: int64, [N, 4]."""
        drawn, within = random_boxes(count, size, self.scale, self.ratio, generator)
        return torch.where(within[:, None], drawn, torch.tensor(self._middle(size)))

    def _middle(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The largest box in the middle that has a ratio within bounds."""
        height = min(size[0], round(size[1] / self.ratio[0]))
        width = min(size[1], round(size[0] * self.ratio[1]))
        return (size[0] - height) // 2, (size[1] - width) // 2, height, width

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        boxes = drawn.to(images.device, non_blocking=True)
        rows, columns = (
            _read(start, length, side)
            for start, length, side in zip(boxes[:, :2].T, boxes[:, 2:].T, images.shape[2:], strict=True)
        )
        ends = [max(side - 1, 1) for side in images.shape[2:]]
        across, down = 2 * columns[:, None, :] / ends[1] - 1, 2 * rows[:, :, None] / ends[0] - 1
        where = torch.stack([across.expand(-1, *images.shape[2:]), down.expand(-1, *images.shape[2:])], dim=3)
        floats = images if images.is_floating_point() else images.float()
        read = functional.grid_sample(floats, where.to(floats.dtype), "bilinear", "border", align_corners=True)
        return like(images, read if images.is_floating_point() else read.round_().to(images.dtype))


def _read(start: torch.Tensor, length: torch.Tensor, side: int) -> torch.Tensor:
    """Where the pixels of a scaled box are read along one side, never beyond the box: float, [N, side]."""
    at = (torch.arange(side, device=start.device) + 0.5) * (length / side)[:, None] - 0.5
    return start[:, None] + at.clamp(min=0).minimum(length[:, None] - 1.0)
