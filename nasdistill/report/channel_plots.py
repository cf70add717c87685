"""The picture of a network's groups of channels: a row for each, and arrows to those that are computed from it."""

from __future__ import annotations

import math
from html import escape

import networkx

from nasdistill.report.svg import svg, text

# Sizes in pixels.
ROW = 22
LETTER = 7.0
LONGEST_BAR = 120
MARGIN = 12
NUMBER = 52  # room for a width behind its bar
FREE, FIXED = "var(--series-0, #0072b2)", "var(--series-6, #6b7280)"


def draw_channels(graph: networkx.DiGraph, title: str) -> str:
    """Draw what `graph_of` gives, from top to bottom in the order of the graph.

    A bar is as long as the square root of its channels; those of a grey one cannot change in number. Arrows point to
    the groups that weights compute from a group; dashed ones point up or to the group itself, as a residual sum does.

    Returns:
        one SVG element that stands alone or within a page.
    """
    rows = {name: MARGIN + ROW * (at + 1) for at, name in enumerate(graph)}
    left = MARGIN + LETTER * max(map(len, rows), default=0)
    scale = LONGEST_BAR / math.sqrt(max((width for _, width in graph.nodes(data="width")), default=1))
    start = left + LONGEST_BAR + NUMBER
    parts = [
        text(MARGIN, MARGIN + 4, title, 'font-weight="600"'),
        '<defs><marker id="head" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L6 3L0 6z" fill="currentColor" fill-opacity="0.6"/></marker></defs>',
    ]
    for name, y in rows.items():
        node = graph.nodes[name]
        bar, free = scale * math.sqrt(node["width"]), node["fixed"] is None
        parts += [
            text(left, y + 4, name, 'text-anchor="end"'),
            f'<rect x="{left + 8}" y="{y - 6}" width="{bar:.1f}" height="12" rx="2" '
            f'style="fill: {FREE if free else FIXED}"><title>{escape(node["fixed"] or "")}</title></rect>',
            text(left + bar + 14, y + 4, str(node["width"])),
        ]
    furthest = 0.0
    for source, target, weights in graph.edges(data="weights"):
        bend = 14 + 9 * (abs(rows[target] - rows[source]) / ROW) ** 0.75
        furthest = max(furthest, bend)
        begin, end = rows[source] + 3, rows[target] - 3
        dashes = "" if end > begin else ' stroke-dasharray="3 3"'
        parts.append(
            f'<path d="M{start} {begin}C{start + bend:.1f} {begin} {start + bend:.1f} {end} {start} {end}" fill="none" '
            f'stroke="currentColor" stroke-opacity="0.5"{dashes} marker-end="url(#head)">'
            f"<title>{escape(', '.join(weights))}</title></path>"
        )
    width, height = start + furthest + MARGIN, MARGIN + ROW * (len(rows) + 1)
    return svg(width, height, title, parts, f'width="{width:.0f}" height="{height:.0f}"')
