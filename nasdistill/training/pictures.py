"""Images of any channels as one picture that people can look at."""

from __future__ import annotations

import torch
from torchvision.utils import make_grid

from nasdistill.training.waves import traced


def grid(pixels: torch.Tensor) -> torch.Tensor:
    """Images beside each other, eight in a row; those of one row as waves.

    Args:
        pixels: uint8, [N, C, H, W], on the CPU; neither grey nor of three colours, the first channel is shown.

    Returns:
        uint8, [3, H, W].
    """
    if pixels.shape[2] == 1:
        pixels = torch.from_numpy(traced(pixels.numpy()))
    picture: torch.Tensor = make_grid(pixels if pixels.shape[1] == 3 else pixels[:, :1])
    return picture
