"""Random erasing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.data.augmentations.random_resized_crop import random_boxes
from nasdistill.data.augmentations.ranges import Range
from nasdistill.data.augmentations.standard import in_boxes


@AUGMENTATIONS.register("erasing")
class Erasing(Augmentation):
    """Set a box of random area and side ratio to the mean colour, with a probability drawn for each image.

    The box lies within the image. The paper also fills it with random colours.
    """

    source: ClassVar[str] = "Zhong et al. 2020, Random Erasing Data Augmentation (arXiv:1708.04896), algorithm 1"

    probability: float = Field(0.5, ge=0, le=1, description="share of the images that lose a box")
    scale: Range = Field((0.02, 0.33), description="smallest and largest share of the image's area")
    ratio: Range = Field((0.3, 3.3), description="smallest and largest width by height")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.probability:
            yield "probability", "it is 0, so that no image loses a box"

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        """Top, left, height, width: int64, [N, 4]; zeros where nothing is lost."""
        drawn, within = random_boxes(count, size, self.scale, self.ratio, generator)
        chosen = within & (torch.rand(count, generator=generator) < self.probability)
        return drawn * chosen[:, None]

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        boxes = drawn.to(images.device, non_blocking=True)
        inside = in_boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1), images)
        return torch.where(inside[:, None], images.new_zeros(()), images)
