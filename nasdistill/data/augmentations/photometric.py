"""Colours: jitter and grey."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.data import colours
from nasdistill.data.augmentations import AUGMENTATIONS, PixelAugmentation

FACTOR = "largest difference of the {} factor from 1"


@AUGMENTATIONS.register("color-jitter")
class ColorJitter(PixelAugmentation):
    """Change brightness, contrast, saturation and hue, each by an amount and all in an order drawn for each image."""

    source: ClassVar[str] = "torchvision.transforms.v2.ColorJitter"

    brightness: float = Field(0.4, ge=0, description=FACTOR.format("brightness"))
    contrast: float = Field(0.4, ge=0, description=FACTOR.format("contrast"))
    saturation: float = Field(0.4, ge=0, description=FACTOR.format("saturation"))
    hue: float = Field(0.1, ge=0, le=0.5, description="largest turn of the hue, as a share of the colour circle")

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        """Three factors and the turn of the hue, then the order in which they are applied: [N, 8]."""
        most = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue])
        lowest = torch.cat([(1 - most[:3]).clamp(min=0), -most[3:]])
        highest = torch.cat([1 + most[:3], most[3:]])
        amounts = torch.lerp(lowest, highest, torch.rand(count, 4, generator=generator))
        return torch.cat([amounts, torch.rand(count, 4, generator=generator).argsort(1)], dim=1)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        operations = (colours.brightness, colours.contrast, colours.saturation, colours.hue)
        changed = images.clone()
        for step in drawn[:, 4:].T:
            for number, operation in enumerate(operations):
                here = (step == number).nonzero()[:, 0]
                if len(here):
                    amounts = drawn[here, number].to(images.device, non_blocking=True)
                    here = here.to(images.device, non_blocking=True)
                    changed[here] = operation(changed[here], amounts)
        return changed


@AUGMENTATIONS.register("grey")
class Grey(PixelAugmentation):
    """Take the colours out of an image with a probability, drawn for each image."""

    source: ClassVar[str] = "torchvision.transforms.v2.RandomGrayscale"

    probability: float = Field(0.1, ge=0, le=1, description="share of the images that become grey")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.probability:
            yield "probability", "it is 0, so that no image becomes grey"

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return torch.rand(count, generator=generator) < self.probability

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        chosen = drawn.to(images.device, non_blocking=True)[:, None, None, None]
        return torch.where(chosen, colours.grey(images).to(images.dtype), images)
