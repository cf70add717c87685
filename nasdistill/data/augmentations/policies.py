"""Augmentations that draw an operation for each image: RandAugment and TrivialAugment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field

from nasdistill.data import colours
from nasdistill.data.augmentations import AUGMENTATIONS, PixelAugmentation
from nasdistill.data.augmentations.geometric import offsets

LEVELS = 30
"""The highest magnitude."""


class Operation(NamedTuple):
    """What an image may become.

    Attributes:
        apply: to uint8 images [N, C, H, W], each with its amount, float [N].
        signed: whether the amount is turned into its negative for half of the images.
        amount: from the strength, which rises with the magnitude from 0.
    """

    apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    signed: bool = False
    amount: Callable[[torch.Tensor], torch.Tensor] = lambda strength: strength


def nearest(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The pixels nearest to these offsets from the centres, each [N, H, W] or what expands to it; black beyond."""
    height, width = images.shape[2:]
    rows = (down + (height - 1) / 2).round().long().expand(-1, height, width)
    columns = (right + (width - 1) / 2).round().long().expand(-1, height, width)
    within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = (rows * width + columns).masked_fill_(~within, 0).flatten(1)[:, None]
    read = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1)).view(images.shape)
    return read.mul_(within[:, None])


def shear_x(images: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    """The top edge stays."""
    down, right = offsets(images)
    return nearest(images, down, right + slopes.view(-1, 1, 1) * (down + images.shape[2] / 2))


def shear_y(images: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    """The left edge stays."""
    down, right = offsets(images)
    return nearest(images, down + slopes.view(-1, 1, 1) * (right + images.shape[3] / 2), right)


def translate_x(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    down, right = offsets(images)
    return nearest(images, down, right - pixels.trunc().view(-1, 1, 1))


def translate_y(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    down, right = offsets(images)
    return nearest(images, down - pixels.trunc().view(-1, 1, 1), right)


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Counter-clockwise about the centre."""
    down, right = offsets(images)
    angle = degrees.deg2rad().view(-1, 1, 1)
    return nearest(images, right * angle.sin() + down * angle.cos(), right * angle.cos() - down * angle.sin())


def _factor(strength: torch.Tensor) -> torch.Tensor:
    return 1 + strength


OPERATIONS: Mapping[str, Operation] = {
    "identity": Operation(lambda images, _: images),
    "shear-x": Operation(shear_x, signed=True),
    "shear-y": Operation(shear_y, signed=True),
    "translate-x": Operation(translate_x, signed=True),
    "translate-y": Operation(translate_y, signed=True),
    "rotate": Operation(rotate, signed=True),
    "brightness": Operation(colours.brightness, True, _factor),
    "color": Operation(colours.saturation, True, _factor),
    "contrast": Operation(colours.contrast, True, _factor),
    "sharpness": Operation(colours.sharpness, True, _factor),
    "posterize": Operation(colours.posterize, amount=lambda bits: 8 - bits.round()),
    "solarize": Operation(colours.solarize, amount=lambda strength: 255 * (1 - strength)),
    "autocontrast": Operation(lambda images, _: colours.autocontrast(images)),
    "equalize": Operation(lambda images, _: colours.equalize(images)),
}
COLOURS = ("brightness", "color", "contrast", "sharpness")


class Policy(PixelAugmentation):
    """Base: draws operations of `OPERATIONS`, all as likely, and applies them in turn, without interpolation."""

    def strongest(self, size: tuple[int, int]) -> dict[str, float]:
        """The strength of an operation at the highest magnitude, where it has one."""
        raise NotImplementedError(type(self).__name__)

    def drawn(self, magnitudes: torch.Tensor, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        """Operations and amounts, float64 [N, operations, 2], for magnitudes from 0 to `LEVELS`, [N, operations]."""
        strongest = self.strongest(size)
        chosen = torch.randint(len(OPERATIONS), magnitudes.shape, generator=generator)
        sign = torch.where(torch.rand(magnitudes.shape, generator=generator) < 0.5, -1.0, 1.0)
        amounts = torch.zeros(magnitudes.shape, dtype=torch.float64)
        for number, (name, operation) in enumerate(OPERATIONS.items()):
            strength = magnitudes.double() * (strongest.get(name, 0.0) / LEVELS)
            amount = operation.amount(strength * sign if operation.signed else strength)
            amounts = torch.where(chosen == number, amount, amounts)
        return torch.stack([chosen.double(), amounts], dim=2)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        changed = images.clone()
        for step in drawn.unbind(1):
            for number, operation in enumerate(OPERATIONS.values()):
                here = (step[:, 0] == number).nonzero()[:, 0]
                if len(here) and number:
                    amounts = step[here, 1].to(images.device, torch.float32, non_blocking=True)
                    here = here.to(images.device, non_blocking=True)
                    changed[here] = operation.apply(changed[here], amounts)
        return changed


@AUGMENTATIONS.register("rand-augment")
class RandAugment(Policy):
    """Apply a few operations of 14 to each image, drawn anew for each and all at one magnitude."""

    source: ClassVar[str] = "Cubuk et al. 2019, RandAugment (arXiv:1909.13719), figure 2; ranges as in torchvision"

    operations: int = Field(2, gt=0, le=14, description="how many operations an image goes through (N in the paper)")
    magnitude: int = Field(9, ge=0, le=LEVELS, description="how strong they are (M in the paper)")

    def strongest(self, size: tuple[int, int]) -> dict[str, float]:
        share = 150 / 331  # of the side: AutoAugment's 150 pixels of ImageNet's 331
        geometric = {"shear-x": 0.3, "shear-y": 0.3, "translate-x": share * size[1], "translate-y": share * size[0]}
        return {**geometric, "rotate": 30, **dict.fromkeys(COLOURS, 0.9), "posterize": 4, "solarize": 1}

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return self.drawn(torch.full((count, self.operations), self.magnitude), size, generator)


@AUGMENTATIONS.register("trivial-augment")
class TrivialAugment(Policy):
    """Apply one operation of 14 to each image, at a magnitude drawn as well: the wide space of the paper."""

    source: ClassVar[str] = "Mueller and Hutter 2021, TrivialAugment (arXiv:2103.10158); ranges as in torchvision"

    def strongest(self, size: tuple[int, int]) -> dict[str, float]:
        geometric = {"shear-x": 0.99, "shear-y": 0.99, "translate-x": 32.0, "translate-y": 32.0}
        return {**geometric, "rotate": 135, **dict.fromkeys(COLOURS, 0.99), "posterize": 6, "solarize": 1}

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return self.drawn(torch.randint(LEVELS + 1, (count, 1), generator=generator), size, generator)
