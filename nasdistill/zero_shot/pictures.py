"""What the report and TensorBoard show of pseudo-images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from nasdistill.data.base import Normalisation

LARGEST = 64
"""Of the shorter side, in pixels: checkpoints hold all pictures, and the report shows them no larger."""


def as_pixels(images: torch.Tensor, normalisation: Normalisation | None) -> torch.Tensor:
    """Normalised images [N, C, H, W] as uint8 on the CPU; large ones are averaged down by a whole factor.

    With the numbers that images are normalised with, pixels outside of [0, 255] are clipped; where nobody knows them,
    the least value becomes black and the largest white. Embeddings [N, E, 1, L] become pictures of E rows, likewise.
    """
    images = images.detach().float().cpu()
    embeddings = normalisation is not None and images.shape[1] != len(normalisation.mean)
    if embeddings:
        images = images.flatten(1, 2).unsqueeze(1)
    if normalisation is not None and not embeddings:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (normalisation.mean, normalisation.std))
        images = images * std + mean
    else:
        low, high = images.aminmax()
        images = (images - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    images = images.clamp(0, 1)
    factor = -(-min(images.shape[2:]) // LARGEST)
    if factor > 1:
        images = functional.avg_pool2d(images, factor, ceil_mode=True)
    return (images * 255).round().to(torch.uint8)


def described(pictures: Sequence[dict[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """The content of `pseudo.json` from the pictures of a course: plain data, a row of pixels in hexadecimal."""
    return {
        "classes": list(classes),
        "pictures": [
            {
                "done": picture["done"],
                "images": [
                    [[bytes(row).hex() for row in channel] for channel in image] for image in picture["pixels"].tolist()
                ],
                "student": picture["histograms"][0].tolist(),
                "teacher": picture["histograms"][1].tolist(),
            }
            for picture in pictures
        ],
    }
