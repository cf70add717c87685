"""Images and maps as text for reports: rows of hexadecimal bytes, small enough for a JSON file."""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.data.base import Normalisation

LARGEST_IMAGE, LARGEST_WAVE = 64, 1024
"""Pixels of the longer side as written; a dozen images stay below a megabyte."""


def pixel_grids(image: torch.Tensor, normalisation: Normalisation) -> list[list[str]]:
    """A normalised image [C, H, W] as it was, a grid per channel."""
    largest = LARGEST_WAVE if image.shape[1] == 1 else LARGEST_IMAGE  # the average of a wave's samples is silence
    mean, std = torch.tensor(normalisation.mean), torch.tensor(normalisation.std)
    return [grid(channel, largest) for channel in image * std.view(-1, 1, 1) + mean.view(-1, 1, 1)]


def grid(values: torch.Tensor, largest: int) -> list[str]:
    """Values in [0, 1], [H, W], averaged down to at most `largest` rows and columns, as rows of hexadecimal bytes."""
    shrink = max(1.0, max(values.shape) / largest)
    height, width = (max(1, round(length / shrink)) for length in values.shape)
    small = functional.adaptive_avg_pool2d(values[None], (height, width))[0]
    return [bytes(row).hex() for row in (255 * small.clamp(0, 1)).round().to(torch.uint8).tolist()]
