"""Drawings of searched cells as SVG: states as circles, operations as labelled boxes before the state they feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INPUTS = ("c_{k-2}", "c_{k-1}")
OUTPUT = "c_{k}"

# Sizes in drawing units, which are pixels at full size.
BOX_HEIGHT = 24
BOX_GAP = 8
BLOCK_GAP = 22
LETTER = 7.0
RADIUS = 15
LANE = 52
MARGIN = 12
TITLE = 30

# One colour a family of operations; the page overrides the fallbacks by its light or dark palette.
_FAMILIES = (
    ("sep_conv", "var(--series-0, #0072b2)"),
    ("dil_conv", "var(--series-1, #c65600)"),
    ("max_pool", "var(--series-2, #00805c)"),
    ("avg_pool", "var(--series-3, #b0528a)"),
    ("skip", "var(--series-6, #6b7280)"),
)
_OTHER = "var(--series-7, #8a2c5a)"


@dataclass(frozen=True)
class _Place:
    """A state's circle: centre, and the box of operations left of it."""

    x: float
    y: float


def draw_cell(edges: Sequence[Sequence[tuple[str, int]]], title: str) -> str:
    """Draw a cell.

    Args:
        edges: per inner node its edges `(operation, input state)`, as in a genotype; states 0 and 1 are the cell's
            inputs, node i is state i + 2.
        title: shown above; may be any text, it is escaped.

    Returns:
        one SVG element that stands alone or within a page.

    Raises:
        ValueError: an edge comes from a state that is not before its node.
    """
    layers = _layers(edges)
    columns = [[node for node, layer in enumerate(layers) if layer == column] for column in range(1, max(layers) + 1)]
    box_width = 20 + LETTER * max((len(name) for node in edges for name, _ in node), default=8)
    step = LANE + box_width + 26 + 2 * RADIUS
    left = MARGIN + 2 * RADIUS + 26
    places: dict[int, _Place] = {}
    heights = [sum(_block(edges[node]) for node in column) + BLOCK_GAP * (len(column) - 1) for column in columns]
    height = max([*heights, 150.0])
    places[0] = _Place(left, TITLE + MARGIN + height * 0.28)
    places[1] = _Place(left, TITLE + MARGIN + height * 0.72)
    for number, (column, tall) in enumerate(zip(columns, heights, strict=True)):
        top = TITLE + MARGIN + (height - tall) / 2
        for node in column:
            block = _block(edges[node])
            places[node + 2] = _Place(left + step * (number + 1), top + block / 2)
            top += block + BLOCK_GAP
    output = _Place(left + step * len(columns) + 2 * LANE, TITLE + MARGIN + height / 2)
    width = output.x + RADIUS + 26 + MARGIN
    parts = [_title(title)]
    # Lines first: the boxes then cover what runs behind them.
    boxes = []
    for node, incoming in enumerate(edges):
        target = places[node + 2]
        box_x = target.x - RADIUS - 26 - box_width
        for row, (name, source) in enumerate(incoming):
            y = target.y + (row - (len(incoming) - 1) / 2) * (BOX_HEIGHT + BOX_GAP)
            parts.append(_curve(places[source].x + RADIUS, places[source].y, box_x, y))
            parts.append(_curve(box_x + box_width, y, target.x - RADIUS, target.y))
            boxes.append(_box(box_x, y, box_width, name))
    parts += [
        _curve(places[node + 2].x + RADIUS, places[node + 2].y, output.x - RADIUS - 10, output.y, dashed=True)
        for node in range(len(edges))
    ]
    parts += boxes
    parts += [_circle(places[state], INPUTS[state], wide=True) for state in (0, 1)]
    parts += [_circle(places[node + 2], str(node)) for node in range(len(edges))]
    parts.append(_circle(output, OUTPUT, wide=True))
    total = TITLE + height + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {total:.0f}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" fill="currentColor">'
        + "".join(parts)
        + "</svg>"
    )


def _layers(edges: Sequence[Sequence[tuple[str, int]]]) -> list[int]:
    """The layer of each node: one more than the last of its inputs; the cell's inputs are layer 0."""
    layers = [0, 0]
    for node, incoming in enumerate(edges):
        for name, source in incoming:
            if not 0 <= source < node + 2:
                raise ValueError(f"node {node} takes {name!r} from state {source}; allowed are 0 to {node + 1}")
        layers.append(1 + max((layers[source] for _, source in incoming), default=0))
    return layers[2:]


def _block(incoming: Sequence[object]) -> float:
    return max(len(incoming) * (BOX_HEIGHT + BOX_GAP) - BOX_GAP, 2.0 * RADIUS)


def _title(text: str) -> str:
    return f'<text x="{MARGIN}" y="{TITLE - 8}" font-size="15" font-weight="600">{escape(text)}</text>'


def _curve(x: float, y: float, to_x: float, to_y: float, dashed: bool = False) -> str:
    middle = (x + to_x) / 2
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<path d="M{x:.1f} {y:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}" fill="none" '
        f'stroke="currentColor" stroke-opacity="0.45" stroke-width="1.5"{dashes}/>'
    )


def _box(x: float, y: float, width: float, name: str) -> str:
    colour = next((colour for family, colour in _FAMILIES if name.startswith(family)), _OTHER)
    return (
        f'<rect x="{x:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="6" '
        f'style="fill: var(--paper, #ffffff); stroke: {colour}" stroke-width="2"/>'
        f'<text x="{x + width / 2:.1f}" y="{y + 4:.1f}" font-size="12" text-anchor="middle">{escape(name)}</text>'
    )


def _circle(place: _Place, name: str, wide: bool = False) -> str:
    half = RADIUS + (14 if wide else 0)
    return (
        f'<rect x="{place.x - half:.1f}" y="{place.y - RADIUS:.1f}" width="{2 * half}" height="{2 * RADIUS}" '
        f'rx="{RADIUS}" style="fill: var(--raised, #eef1f5)" stroke="currentColor" stroke-width="1.2"/>'
        f'<text x="{place.x:.1f}" y="{place.y + 4:.1f}" font-size="12" text-anchor="middle">{_subscript(name)}</text>'
    )


def _subscript(name: str) -> str:
    """`c_{k-1}` with its index set low."""
    base, brace, index = name.partition("_{")
    if not brace:
        return escape(base)
    return f'{escape(base)}<tspan dy="3" font-size="9">{escape(index[:-1])}</tspan>'
