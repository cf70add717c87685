"""Drawings of searched cells as SVG: states as circles, operations as labelled boxes before the state they feed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasdistill.models.genotypes import CellGraph

INPUTS = ("c_{k-2}", "c_{k-1}")
OUTPUT = "c_{k}"

Edges = Sequence[Sequence[tuple[str, int]]]
"""Per inner node its edges (operation, input state); the first states are the cell's inputs, then come its nodes."""

# Sizes in drawing units, which are pixels at full size.
BOX_HEIGHT = 24
BOX_GAP = 8
BLOCK_GAP = 22
LETTER = 7.0
RADIUS = 15
PORT = 29  # half the width of the cell's inputs and its output, which are wider than circles
ARROW = 26  # from a box to its circle
LANE = 52  # between one layer's circles and the next one's boxes, for the lines to bend in
LANE_GAP = 11
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
_DASHES = ' stroke-dasharray="4 4"'


def draw_graph(graph: CellGraph, near_ties: Collection[tuple[int, int]] = ()) -> str:
    """Draw a kind of cell as it says that it is drawn, see `draw_cell`."""
    return draw_cell(graph.edges, graph.title, graph.inputs, graph.outputs, near_ties)


def draw_cell(
    edges: Edges,
    title: str,
    inputs: int = 2,
    outputs: Collection[int] | None = None,
    near_ties: Collection[tuple[int, int]] = (),
) -> str:
    """Draw a cell from left to right: its inputs, layer by layer its nodes with their operations, its output.

    Args:
        edges: as in a genotype.
        title: shown above; may be any text, it is escaped.
        inputs: how many the cell has, 1 or 2.
        outputs: the nodes that its output is made of; all, if not given.
        near_ties: (state, node) of edges whose boxes are dashed, nodes counted from 0.

    Returns:
        one SVG element that stands alone or within a page.

    Raises:
        ValueError: there is no node, or an edge comes from a state that is not before its node.
    """
    outputs = range(len(edges)) if outputs is None else outputs
    layout = _layout(edges, inputs, outputs)
    output = len(edges) + inputs
    lines, boxes = [], []
    for node, incoming in enumerate(edges):
        x, y = layout.places[node + inputs]
        left = x - RADIUS - ARROW - layout.box_width
        for row, (name, source) in enumerate(incoming):
            middle = y + (row - (len(incoming) - 1) / 2) * (BOX_HEIGHT + BOX_GAP)
            lines.append(_line(*layout.start(source), left, middle, layout.lane(source, node + inputs)))
            lines.append(_line(left + layout.box_width, middle, x - RADIUS, y))
            boxes.append(_box(left, middle, layout.box_width, name, (source, node) in near_ties))
    out_x, out_y = layout.places[output]
    for state in (node + inputs for node in outputs):
        lines.append(_line(*layout.start(state), out_x - PORT, out_y, layout.lane(state, output), dashed=True))
    # As published: DARTS counts its nodes from 0, and NAS-Bench-201 from 1, as its input is 0.
    numbers = range(2 - inputs, 2 - inputs + len(edges))
    names = [*INPUTS[-inputs:], *map(str, numbers), OUTPUT]
    states = [_state(*layout.places[state], name, layout.half(state)) for state, name in enumerate(names)]
    heading = f'<text x="{MARGIN}" y="{TITLE - 8}" font-size="15" font-weight="600">{escape(title)}</text>'
    width, height = (f"{length:.0f}" for length in layout.size)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" fill="currentColor">'
        + "".join([heading, *lines, *boxes, *states])
        + "</svg>"
    )


@dataclass(frozen=True)
class _Layout:
    """Where things go; the output counts as one more state, after the nodes.

    Attributes:
        layers: of each state; the layer of a node is one more than the last of its inputs.
        places: the centre of each state.
        lanes: for each state whose lines pass a layer, the height above or below all boxes at which they do.
    """

    inputs: int
    box_width: float
    layers: list[int]
    places: list[tuple[float, float]]
    lanes: dict[int, float]
    size: tuple[float, float]

    def half(self, state: int) -> float:
        """Half the width of a state."""
        return PORT if state < self.inputs or state == len(self.layers) - 1 else RADIUS

    def start(self, state: int) -> tuple[float, float]:
        """Where the lines of a state begin."""
        x, y = self.places[state]
        return x + self.half(state), y

    def lane(self, source: int, target: int) -> float | None:
        return self.lanes[source] if self.layers[target] > self.layers[source] + 1 else None


def _layout(edges: Edges, inputs: int, outputs: Collection[int]) -> _Layout:
    layers = _layers(edges, inputs)
    box_width = 20 + LETTER * max((len(name) for incoming in edges for name, _ in incoming), default=0)
    places, height = _places(edges, layers, box_width, inputs)
    joined = [(source, node + inputs) for node, incoming in enumerate(edges) for _, source in incoming]
    joined += [(node + inputs, len(edges) + inputs) for node in outputs]
    passing = sorted({source for source, target in joined if layers[target] > layers[source] + 1})
    # The upper half passes above and the lower half below; where a state is in the middle, every second one.
    offsets = {state: places[state][1] - height / 2 or state % 2 - 0.5 for state in passing}
    above, below = ([state for state in passing if (offsets[state] < 0) is up] for up in (True, False))
    top = TITLE + MARGIN + LANE_GAP * len(above)
    lanes: dict[int, float] = {state: top - LANE_GAP * (len(above) - number) for number, state in enumerate(above)}
    lanes |= {state: top + height + LANE_GAP * (len(below) - number) for number, state in enumerate(below)}
    size = (places[-1][0] + PORT + MARGIN, top + height + LANE_GAP * len(below) + MARGIN)
    return _Layout(inputs, box_width, layers, [(x, y + top) for x, y in places], lanes, size)


def _layers(edges: Edges, inputs: int) -> list[int]:
    if not edges:
        raise ValueError("a cell has at least one node")
    layers = [0] * inputs
    for node, incoming in enumerate(edges):
        for name, source in incoming:
            if not 0 <= source < node + inputs:
                raise ValueError(
                    f"node {node} takes {name!r} from state {source}; allowed are 0 to {node + inputs - 1}"
                )
        layers.append(1 + max((layers[source] for _, source in incoming), default=0))
    return [*layers, 1 + max(layers)]


def _places(
    edges: Edges, layers: Sequence[int], box_width: float, inputs: int
) -> tuple[list[tuple[float, float]], float]:
    """The centre of each state, y from the top of the highest layer, and the height of that layer.

    Nodes of one layer stand below each other, each as high as its boxes, so that no two boxes overlap.
    """
    blocks = [max(len(incoming) * (BOX_HEIGHT + BOX_GAP) - BOX_GAP, 2.0 * RADIUS) for incoming in edges]
    columns = [[node for node in range(len(edges)) if layers[node + inputs] == layer] for layer in range(1, layers[-1])]
    heights = [sum(blocks[node] for node in column) + BLOCK_GAP * (len(column) - 1) for column in columns]
    height = max(*heights, 6.0 * RADIUS)
    left = MARGIN + PORT
    step = LANE + box_width + ARROW + 2 * RADIUS
    centres: dict[int, tuple[float, float]] = {
        state: (left, (0.5 + 0.44 * (state - (inputs - 1) / 2)) * height) for state in range(inputs)
    }
    for number, column in enumerate(columns):
        y = (height - heights[number]) / 2
        for node in column:
            centres[node + inputs] = (left + PORT - RADIUS + step * (number + 1), y + blocks[node] / 2)
            y += blocks[node] + BLOCK_GAP
    centres[len(edges) + inputs] = (left + step * len(columns) + 2 * LANE + PORT, height / 2)
    return [centres[state] for state in range(len(centres))], height


def _line(x: float, y: float, to_x: float, to_y: float, lane: float | None = None, dashed: bool = False) -> str:
    """A curve from left to right; with a lane it runs straight at that height between two bends."""
    path = f"M{x:.1f} {y:.1f}"
    if lane is not None:
        path += f"{_bend(x, y, x + LANE, lane)}H{to_x - LANE:.1f}"
        x, y = to_x - LANE, lane
    return (
        f'<path d="{path}{_bend(x, y, to_x, to_y)}" fill="none" stroke="currentColor" stroke-opacity="0.45" '
        f'stroke-width="1.5"{_DASHES if dashed else ""}/>'
    )


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (x + to_x) / 2
    return f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _box(x: float, y: float, width: float, name: str, dashed: bool) -> str:
    colour = next((colour for family, colour in _FAMILIES.items() if name.startswith(family)), _OTHER)
    return (
        f'<rect x="{x:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="6" '
        f'style="fill: var(--paper, #ffffff); stroke: {colour}" stroke-width="2"{_DASHES if dashed else ""}/>'
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
