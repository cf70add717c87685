"""What all searches by gradient in one training share: the two halves of the images, the rate, the names of curves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from nasdistill.data.loaders import Batches, training_batches
from nasdistill.data.seeds import derived_seed
from nasdistill.data.splits import stratified
from nasdistill.errors import UserError

if TYPE_CHECKING:
    import torch

    from nasdistill.data.base import Data
    from nasdistill.training.engine import Engine

CURVES = {
    "training": "train/loss",
    "validation": "validation/loss",
    "training accuracy": "train/accuracy",
    "validation accuracy": "validation/accuracy",
}
"""How curves call what a step tells of each half."""


def halves(data: Data, batch_size: int, engine: Engine, seed: int) -> tuple[Batches, Batches]:
    """Batches of the training images that teach the weights, and of those that teach or judge the architecture.

    Both are drawn per class; cutout is left out, as published for DARTS.

    Raises:
        UserError: there are too few images.
    """
    augmentations = tuple(item for item in data.augmentations if item.registered_name != "cutout")
    one, other = stratified(data.train.labels, len(data.train) // 2, seed)
    if len(one) < 2:
        raise UserError(f"a search needs at least 4 training images, got {len(data.train)}")

    def batches(indices: torch.Tensor, half: str) -> Batches:
        part = replace(data, train=data.train.subset(indices), augmentations=augmentations)
        return training_batches(part, batch_size, derived_seed(seed, half), engine)

    return batches(one, "weights"), batches(other, "architecture")


def half_cosine(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine, at the share `done` of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
