"""Mean and standard deviation of pixels, exact: sums of integers do not depend on threads or order."""

from __future__ import annotations

import math

import torch

from nasdistill.data.base import ImageFiles, Images, Normalisation

IMAGES_AT_ONCE = 1024


def pixel_sums(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the pixels of each image and channel, and of their squares.

    Args:
        images: uint8, [N, C, H, W].

    Returns:
        two tensors, int64, [N, C].
    """
    sums, squares = [], []
    for part in torch.split(images, IMAGES_AT_ONCE):  # the wider copies stay small
        wide = part.flatten(2).to(torch.int32)
        sums.append(wide.sum(2))
        squares.append(wide.square().sum(2))
    return torch.cat(sums), torch.cat(squares)


def computed_normalisation(images: Images) -> Normalisation:
    """Mean and standard deviation per channel over all pixels p / 255.

    mean = S / n and std = sqrt(n Q - S^2) / n with S the sum and Q the sum of squares of n pixels; a channel of one
    value, which nothing can scale to unit deviation, gets std 1.
    """
    if isinstance(images, ImageFiles):
        sums, squares = images.sums, images.squares
    else:
        sums, squares = pixel_sums(images.images)
    _, height, width = images.shape
    n = len(images) * height * width
    mean, std = [], []
    for s, q in zip(sums.sum(0).tolist(), squares.sum(0).tolist(), strict=True):
        mean.append(s / (255 * n))
        std.append(math.sqrt(n * q - s * s) / (255 * n) or 1.0)
    return Normalisation(mean=tuple(mean), std=tuple(std))
