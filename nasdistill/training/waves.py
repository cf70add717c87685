"""Waveforms as pictures: an image of one row shows nothing, the line that its samples draw does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 64, 128

Pixels = NDArray[np.uint8]


def traced(waves: Pixels, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """Draw samples as an editor of sound does: white where the line passes, 255 at the top, time to the right.

    Each column is white from the least to the largest of its samples, the next column's first sample included, so that
    the line never breaks and no peak is lost where there are more samples than columns.

    Args:
        waves: 8-bit samples, [..., 1, L].

    Returns:
        [..., height, width], 0 or 255.
    """
    samples = waves[..., 0, :]
    length = samples.shape[-1]
    starts = np.arange(width + 1) * length // width
    parts = [samples[..., start : end + 1] for start, end in pairwise(starts)]
    top, bottom = (
        np.rint((255 - np.stack(values, axis=-1).astype(np.int64)) * ((height - 1) / 255))[..., None, :]
        for values in ([part.max(axis=-1) for part in parts], [part.min(axis=-1) for part in parts])
    )
    rows = np.arange(height)[:, None]
    return np.where((top <= rows) & (rows <= bottom), 255, 0).astype(np.uint8)
