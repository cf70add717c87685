"""The images that all benchmarks work on: random ones of CIFAR-10's shape."""

from __future__ import annotations

import torch

from nasdistill.data.base import Data, ImageSet, Normalisation
from nasdistill.registry import registry

SHAPE = (3, 32, 32)
CLASSES = 10


def random_data(count: int) -> Data:
    """`count` training images, cropped and flipped as usual, and ten each to select and to test with."""
    augmentations = tuple(registry("augmentations").parse(name) for name in ("crop", "flip"))
    normalisation = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    few = _images(CLASSES)
    return Data(_images(count), few, few, tuple(map(str, range(CLASSES))), normalisation, augmentations)


def _images(count: int) -> ImageSet:
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8)
    return ImageSet(images, torch.randint(0, CLASSES, (count,)))
