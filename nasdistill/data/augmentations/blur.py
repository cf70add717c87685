"""Gaussian blur."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field, field_validator

from nasdistill.component import Facts
from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.data.augmentations.ranges import Range, between
from nasdistill.data.augmentations.standard import like, reflected
from nasdistill.errors import SpecError, UserError


@AUGMENTATIONS.register("blur")
class Blur(Augmentation):
    """Blur an image by a Gaussian of a width drawn uniformly, with a probability drawn for each image."""

    source: ClassVar[str] = (
        "Chen et al. 2020, SimCLR (arXiv:2002.05709), appendix A; torchvision.transforms.v2.GaussianBlur"
    )
    normalised: ClassVar[bool] = False

    probability: float = Field(0.5, ge=0, le=1, description="share of the images that are blurred")
    kernel_size: int = Field(5, ge=3, description="side of the Gaussian in pixels, odd; a tenth of the image in SimCLR")
    sigma: Range = Field((0.1, 2.0), description="smallest and largest standard deviation, in pixels")

    @field_validator("kernel_size")
    @classmethod
    def _has_a_centre(cls, size: int) -> int:
        if size % 2 == 0:
            raise SpecError(f"must be odd, got {size}")
        return size

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.probability:
            yield "probability", "it is 0, so that no image is blurred"

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        """The standard deviations, [N]; 0 where nothing is blurred."""
        if self.kernel_size // 2 >= min(size):
            raise UserError(f"a blur of {self.kernel_size} pixels is too wide for images of {size[0]}x{size[1]}")
        sigma = between(self.sigma, torch.rand(count, generator=generator))
        return sigma * (torch.rand(count, generator=generator) < self.probability)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        here = drawn.nonzero()[:, 0]
        sigma, here = (each.to(images.device, non_blocking=True) for each in (drawn[here], here))
        changed = images.clone()
        rows, columns = (self._matrices(sigma, side) for side in images.shape[2:])
        blurred: torch.Tensor = rows @ images[here].to(rows.dtype) @ columns.mT
        changed[here] = blurred.to(images.dtype) if images.is_floating_point() else blurred.round_().to(images.dtype)
        return like(images, changed)

    def _matrices(self, sigma: torch.Tensor, side: int) -> torch.Tensor:
        """What blurs along one side, mirrored at its ends: [N, 1, side, side], from the left."""
        reach = self.kernel_size // 2
        steps = torch.arange(-reach, reach + 1, device=sigma.device)
        weights = torch.softmax(-0.5 * (steps / sigma[:, None]) ** 2, dim=1)
        places = torch.arange(side, device=sigma.device)
        read = reflected(places[:, None] + steps, side)  # [side, kernel_size]
        matrix = weights.new_zeros(len(sigma), side, side)
        matrix.scatter_add_(2, read.expand(len(sigma), -1, -1), weights[:, None].expand(-1, side, -1))
        return matrix[:, None]
