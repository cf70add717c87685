"""Mean and standard deviation of values, exact: sums of integers do not depend on threads or order."""

from __future__ import annotations

import math

import torch

from nasdistill.data.base import ImageFiles, Images, Normalisation

IMAGES_AT_ONCE = 1024
LEVELS = {torch.uint8: (0, 255), torch.int16: (-32768, 65535), torch.int32: (0, 1)}
"""By type of what a data set holds, the least value and the largest above it: pixels and samples become numbers in
[0, 1] by them; tokens stay the numbers that they are."""


def pixel_sums(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the values of each image and channel, above the least that there can be, and of their squares.

    Args:
        images: uint8 or int16, [N, C, H, W].

    Returns:
        two tensors, int64, [N, C].
    """
    sums, squares = [], []
    lowest, span = LEVELS[images.dtype]
    for part in torch.split(images, IMAGES_AT_ONCE):  # the wider copies stay small
        wide = part.flatten(2).to(torch.int32 if span == 255 else torch.int64) - lowest
        sums.append(wide.sum(2))
        squares.append(wide.square().sum(2))
    return torch.cat(sums), torch.cat(squares)


def computed_normalisation(images: Images) -> Normalisation:
    """Mean and standard deviation per channel over all values in [0, 1], of pixels p / 255; tokens stay as they are.

    mean = S / n and std = sqrt(n Q - S^2) / n with S the sum and Q the sum of squares of n pixels; a channel of one
    value, which nothing can scale to unit deviation, gets std 1.
    """
    span = 255
    if isinstance(images, ImageFiles):
        sums, squares = images.sums, images.squares
    elif images.images.dtype == torch.int32:
        return Normalisation(mean=(0.0,), std=(1.0,))
    else:
        sums, squares = pixel_sums(images.images)
        span = LEVELS[images.images.dtype][1]
    _, height, width = images.shape
    n = len(images) * height * width
    mean, std = [], []
    for s, q in zip(sums.sum(0).tolist(), squares.sum(0).tolist(), strict=True):
        mean.append(s / (span * n))
        std.append(math.sqrt(n * q - s * s) / (span * n) or 1.0)
    return Normalisation(mean=tuple(mean), std=tuple(std))
