"""A batch augmentation: the left part of an image beside the right part of another one."""

from __future__ import annotations

import torch
from pydantic import Field

from nasdistill.data.augmentations import AUGMENTATIONS, BatchAugmentation
from nasdistill.data.augmentations.mixes import beta, blended


@AUGMENTATIONS.register("side-by-side")
class SideBySide(BatchAugmentation):
    """From a column on an image shows what another one of the batch shows there; labels go by the width of each."""

    source = "Summers and Dinneen, Improved Mixed-Example Data Augmentation (2019): horizontal concat"
    normalised = False  # it moves pixels, so bytes will do

    alpha: float = Field(1.0, gt=0, description="of Beta(alpha, alpha), which the width of the left part is drawn from")

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        _height, width = size
        return (beta(self.alpha, count, generator) * width).round()

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        width = images.shape[3]
        columns = drawn.to(images.device, targets.dtype)
        left = torch.arange(width, device=images.device) < columns[:, None]
        mixed = torch.where(left[:, None, None], images, images.roll(1, 0))
        return mixed, blended(targets, columns / width)
