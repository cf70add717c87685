"""SVG written by hand: text, and images of pixels as PNG, small enough to be embedded."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator, BeforeValidator

from nasdistill.training.waves import traced

Pixels = NDArray[np.uint8]
LARGEST = 64
"""Of a tile's shorter side, in pixels."""


def _bytes(row: object) -> bytes:
    if not isinstance(row, str):
        raise ValueError("a row of a grid must be text")
    return bytes.fromhex(row)


def _of_one_length(rows: list[bytes]) -> list[bytes]:
    if len(set(map(len, rows))) != 1 or not rows[0]:
        raise ValueError("the rows of a grid must be of one length, over 0")
    return rows


Grid = Annotated[list[Annotated[bytes, BeforeValidator(_bytes)]], AfterValidator(_of_one_length)]
"""Rows of values 0 to 255, two hexadecimal digits each in the file."""


def pixels_of(grids: Iterable[Sequence[bytes]]) -> Pixels:
    """An image of a grid per channel, [C, H, W]."""
    return np.array([[list(row) for row in grid] for grid in grids], dtype=np.uint8)


def svg(width: float, height: float, label: str, parts: Iterable[str], attributes: str = "") -> str:
    """One SVG element that stands alone or within a page.

    Args:
        label: the picture in words.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui, sans-serif" font-size="12" fill="currentColor" '
        f"{attributes}>{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, attributes: str = "") -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" {attributes}>{escape(words)}</text>'


def image(pixels: Pixels, x: float, y: float, width: float, height: float, attributes: str = "") -> str:
    """Values of 0 to 255, [H, W, 3] or with opacity [H, W, 4]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width:.2f}" height="{height:.2f}" style="image-rendering: pixelated" '
        f'href="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}" {attributes}/>'
    )


def tiles(images: Pixels) -> Pixels:
    """Images of any shape, [N, C, H, W], in colours, [N, H, W, 3].

    Of one row they are waveforms and become lines; neither grey nor of three colours, the first channel is shown;
    large ones are shrunk by a whole factor.
    """
    if images.shape[2] == 1:
        images = traced(images)
    if images.shape[1] != 3:
        images = np.repeat(images[:, :1], 3, axis=1)
    pixels = np.moveaxis(images, 1, -1)
    factor = -(-min(pixels.shape[1:3]) // LARGEST)
    return pixels if factor == 1 else np.stack([np.asarray(Image.fromarray(image).reduce(factor)) for image in pixels])


def montage(pixels: Sequence[Pixels] | Pixels, columns: int) -> Pixels:
    """Images, [N, H, W, 3], side by side and below each other, [H', W', 4]; nothing is seen between them."""
    height, width = pixels[0].shape[:2]
    gap = max(1, height // 16)
    rows = -(-len(pixels) // columns)
    made = np.zeros((rows * (height + gap) - gap, min(columns, len(pixels)) * (width + gap) - gap, 4), np.uint8)
    for number, image in enumerate(pixels):
        y, x = number // columns * (height + gap), number % columns * (width + gap)
        made[y : y + height, x : x + width, :3] = image
        made[y : y + height, x : x + width, 3] = 255
    return made
