"""Drawings of searched cells as SVG: states as circles, operations as labelled boxes before the state they feed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INPUTS = ("c_{k-2}", "c_{k-1}")
OUTPUT = "c_{k}"

Edges = Sequence[Sequence[tuple[str, int]]]
"""Per inner node its edges (operation, input state); states 0 and 1 are the cell's inputs, node i is state i + 2."""

# Sizes in drawing units, which are pixels at full size.
BOX_HEIGHT = 24
BOX_GAP = 8
BLOCK_GAP = 22
LETTER = 7.0
RADIUS = 15
PORT = 29  # half the width of the cell's inputs and its output, which are wider than circles
ARROW = 26  # from a box to its circle
LANE = 52  # between one layer's circles and the next one's boxes, for the lines to bend in
MARGIN = 12
TITLE = 30

# One colour a family of operations; the page overrides the fallbacks by its light or dark palette.
_FAMILIES = {
    "sep_conv": "var(--series-0, #0072b2)",
    "dil_conv": "var(--series-1, #c65600)",
    "max_pool": "var(--series-2, #00805c)",
    "avg_pool": "var(--series-3, #b0528a)",
    "skip": "var(--series-6, #6b7280)",
}
_OTHER = "var(--series-7, #8a2c5a)"


def draw_cell(edges: Edges, title: str) -> str:
    """Draw a cell from left to right: its inputs, layer by layer its nodes with their operations, its output.

    Args:
        edges: as in a genotype.
        title: shown above; may be any text, it is escaped.

    Returns:
        one SVG element that stands alone or within a page.

    Raises:
        ValueError: there is no node, or an edge comes from a state that is not before its node.
    """
    layers = _layers(edges)
    box_width = 20 + LETTER * max((len(name) for incoming in edges for name, _ in incoming), default=0)
    places, output, height = _places(edges, layers, box_width)
    lines, boxes = [], []
    for node, incoming in enumerate(edges):
        x, y = places[node + 2]
        left = x - RADIUS - ARROW - box_width
        for row, (name, source) in enumerate(incoming):
            middle = y + (row - (len(incoming) - 1) / 2) * (BOX_HEIGHT + BOX_GAP)
            from_x, from_y = places[source]
            lines.append(_line(from_x + (RADIUS if source > 1 else PORT), from_y, left, middle))
            lines.append(_line(left + box_width, middle, x - RADIUS, y))
            boxes.append(_box(left, middle, box_width, name))
        lines.append(_line(x + RADIUS, y, output[0] - PORT, output[1], dashed=True))
    states = [_state(*places[state], name, PORT) for state, name in enumerate(INPUTS)]
    states += [_state(*places[node + 2], str(node), RADIUS) for node in range(len(edges))]
    states.append(_state(*output, OUTPUT, PORT))
    heading = f'<text x="{MARGIN}" y="{TITLE - 8}" font-size="15" font-weight="600">{escape(title)}</text>'
    # The boxes come after the lines and cover those that run behind them.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {output[0] + PORT + MARGIN:.0f} {height:.0f}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" fill="currentColor">'
        + "".join([heading, *lines, *boxes, *states])
        + "</svg>"
    )


def _layers(edges: Edges) -> list[int]:
    """The layer of each node: one more than the last of its inputs; the cell's inputs are layer 0."""
    if not edges:
        raise ValueError("a cell has at least one node")
    layers = [0, 0]
    for node, incoming in enumerate(edges):
        for name, source in incoming:
            if not 0 <= source < node + 2:
                raise ValueError(f"node {node} takes {name!r} from state {source}; allowed are 0 to {node + 1}")
        layers.append(1 + max((layers[source] for _, source in incoming), default=0))
    return layers[2:]


def _places(
    edges: Edges, layers: Sequence[int], box_width: float
) -> tuple[list[tuple[float, float]], tuple[float, float], float]:
    """Where things go: the centre of each state, the centre of the output, and the height of the drawing.

    Nodes of one layer stand below each other, each as high as its boxes, so that no two boxes overlap.
    """
    blocks = [max(len(incoming) * (BOX_HEIGHT + BOX_GAP) - BOX_GAP, 2.0 * RADIUS) for incoming in edges]
    columns = [[node for node, of in enumerate(layers) if of == layer] for layer in range(1, max(layers) + 1)]
    heights = [sum(blocks[node] for node in column) + BLOCK_GAP * (len(column) - 1) for column in columns]
    height = max(*heights, 6.0 * RADIUS)
    top = TITLE + MARGIN
    left = float(MARGIN + PORT)
    step = LANE + box_width + ARROW + 2 * RADIUS
    centres = {0: (left, top + 0.28 * height), 1: (left, top + 0.72 * height)}
    for number, column in enumerate(columns):
        y = top + (height - heights[number]) / 2
        for node in column:
            centres[node + 2] = (left + PORT - RADIUS + step * (number + 1), y + blocks[node] / 2)
            y += blocks[node] + BLOCK_GAP
    output = (left + step * len(columns) + 2 * LANE + PORT, top + height / 2)
    return [centres[state] for state in range(len(centres))], output, top + height + MARGIN


def _line(x: float, y: float, to_x: float, to_y: float, dashed: bool = False) -> str:
    middle = (x + to_x) / 2
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<path d="M{x:.1f} {y:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}" fill="none" '
        f'stroke="currentColor" stroke-opacity="0.45" stroke-width="1.5"{dashes}/>'
    )


def _box(x: float, y: float, width: float, name: str) -> str:
    colour = next((colour for family, colour in _FAMILIES.items() if name.startswith(family)), _OTHER)
    return (
        f'<rect x="{x:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="6" '
        f'style="fill: var(--paper, #ffffff); stroke: {colour}" stroke-width="2"/>'
        f'<text x="{x + width / 2:.1f}" y="{y + 4:.1f}" font-size="12" text-anchor="middle">{escape(name)}</text>'
    )


def _state(x: float, y: float, name: str, half: float) -> str:
    """A circle, or a pill of twice the width `half`; an index as in `c_{k-1}` is set low."""
    base, _, index = name.partition("_")
    low = f'<tspan dy="3" font-size="9">{index.strip("{}")}</tspan>' if index else ""
    return (
        f'<rect x="{x - half:.1f}" y="{y - RADIUS:.1f}" width="{2 * half}" height="{2 * RADIUS}" rx="{RADIUS}" '
        f'style="fill: var(--raised, #eef1f5)" stroke="currentColor" stroke-width="1.2"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" font-size="12" text-anchor="middle">{base}{low}</text>'
    )
