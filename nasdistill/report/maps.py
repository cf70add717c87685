"""Attention maps as SVG: a test image, and beside it where the student and its teachers look, one below the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import matplotlib
import numpy as np

from nasdistill.report.payloads import Attention
from nasdistill.report.pixels import as_png
from nasdistill.report.plots import shortened
from nasdistill.training.waves import traced

COLOURS = "viridis"  # lightness rises evenly, so that it reads without colour as well

# Sizes in drawing units, which are pixels at full size.
TILE = 64
GAP = 6
IMAGE = 2 * TILE + GAP
NAMES = 22  # for the names of the rows, which are written upwards
LINE = 18


def draw_attention(attention: Attention, number: int) -> str:
    """Draw an image and the maps of all networks: a column per point of the student, a row per network.

    Args:
        number: of the image, from 0.

    Returns:
        one SVG element that stands alone or within a page.
    """
    image = attention.images[number]
    tiles = _tiles(attention, number)
    columns = 1 + max(column for column, _row in tiles)
    networks = ["student", *teacher_names(attention)]
    answers = dict(zip(networks, [image.student, *image.teachers], strict=True))
    top = LINE * (len(networks) + 2)
    width = IMAGE + NAMES + columns * (TILE + GAP) - GAP
    height = top + max(IMAGE, len(networks) * (TILE + GAP) - GAP)

    parts = [_text(0, 15, image.label, "start", 'font-size="15" font-weight="600"')]
    for row, (network, answer) in enumerate(answers.items()):
        middle = top + row * (TILE + GAP) + TILE / 2
        parts += [
            _answer(LINE * (row + 2) - 3, network, answer, answer == image.label),
            _text(
                IMAGE + NAMES - 7, middle, network, "middle", f'transform="rotate(-90 {IMAGE + NAMES - 7} {middle})"'
            ),
        ]
    pixels = np.stack([_values(grid) for grid in image.pixels])
    if pixels.shape[1] == 1:  # a waveform
        pixels = traced(pixels, IMAGE, IMAGE)
    parts.append(_picture(np.moveaxis(pixels, 0, -1), 0, top, IMAGE))
    for (column, row), grid in tiles.items():
        x, y = IMAGE + NAMES + column * (TILE + GAP), top + row * (TILE + GAP)
        if row == 0:
            size = f"{len(grid)}x{len(grid[0])}"
            parts.append(_text(x + TILE / 2, top - 6, size, "middle"))
        parts.append(_picture(_values(grid), x, y, TILE))

    said = ", ".join(f"the {network} says {answer}" for network, answer in answers.items())
    told = f"A test image of class {image.label}: {said}. Beside it their attention maps, {columns} of each."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(told)}" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
        + "".join(parts)
        + "</svg>"
    )


def teacher_names(attention: Attention) -> list[str]:
    """What the teachers are called: by their number where there are several."""
    count = len(attention.images[0].teachers)
    return ["teacher"] if count == 1 else [f"teacher {number + 1}" for number in range(count)]


def _tiles(attention: Attention, number: int) -> dict[tuple[int, int], list[bytes]]:
    """The maps by (column, row): teachers share the column of a point of the student that all of them are beside."""
    columns: dict[tuple[str, int], int] = {}
    times: Counter[tuple[int, str]] = Counter()  # a teacher may have several points beside one of the student
    tiles: dict[tuple[int, int], list[bytes]] = {}
    for pair in attention.pairs:
        point = pair.student, times[pair.number, pair.student]
        times[pair.number, pair.student] += 1
        column = columns.setdefault(point, len(columns))
        tiles[column, 0], tiles[column, 1 + pair.number] = pair.maps[number]
    return tiles


def _answer(y: float, network: str, answer: str, right: bool) -> str:
    colour, mark = (
        ("var(--series-2, #00805c)", "\N{CHECK MARK}")
        if right
        else ("var(--series-1, #c65600)", "\N{MULTIPLICATION X}")
    )
    return (
        f'<text x="0" y="{y}">{escape(network)} says {escape(shortened(answer))} '
        f'<tspan style="fill: {colour}" font-weight="600">{mark}</tspan></text>'
    )


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{escape(shortened(text))}</text>'


def _values(grid: Sequence[bytes]) -> np.ndarray:
    return np.array([list(row) for row in grid], dtype=np.uint8)


def _picture(values: np.ndarray, x: float, y: float, side: float) -> str:
    """Pixels of 0 to 255 in a square: colours, [H, W, 3], grey values, [H, W, 1], or a map, [H, W], in its palette.

    A map of one row fills the square, so that its places stand below those of the waveform.
    """
    stretched = ' preserveAspectRatio="none"' if len(values) == 1 else ""
    if values.ndim == 2:
        values = matplotlib.colormaps[COLOURS](values, bytes=True)
    elif values.shape[2] != 3:
        values = np.repeat(values[:, :, :1], 3, axis=2)
    return (
        f'<image x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}"{stretched} style="image-rendering: pixelated" '
        f'href="{as_png(values)}"/>'
    )
