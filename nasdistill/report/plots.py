"""Pictures as SVG text: curves, bars and matrices that follow the light or dark palette of the page that shows them."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, NullFormatter

Curve = Sequence[tuple[float, float]]
"""Points (x, y) in order of x."""

# Okabe and Ito's colour-blind-safe hues, darkened until each has a contrast of 3 to white. The page's dark palette
# overrides them: every colour below is written as a variable with itself as the fallback.
SERIES = ("#0072b2", "#c65600", "#00805c", "#b0528a", "#a06f00", "#2b8cc4", "#6b7280", "#8a2c5a")
INK = "#1b1f24"
GRID = "#d4d9e0"
PAPER = "#ffffff"
# From the worst to the best of what has an order: the better, the more contrast to the page, light or dark.
SCALE = ("#b9a03c", "#5c9e4a", "#2a8a8a", "#35619a", "#46237a")
DASHES = ("-", "-", "-", "-", "--", "--", "--", "--")

_VARIABLES = {
    **{colour: f"var(--series-{number}, {colour})" for number, colour in enumerate(SERIES)},
    **{colour: f"var(--scale-{number}, {colour})" for number, colour in enumerate(SCALE)},
    PAPER: f"var(--paper, {PAPER})",
    INK: "currentColor",
    GRID: f"var(--grid, {GRID})",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nasdistill",
    "text.parse_math": False,  # names are shown as they are
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    **dict.fromkeys(("figure.facecolor", "figure.edgecolor", "axes.facecolor"), "none"),
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
LONGEST_NAME = 26
FEWEST_POINTS = 6.0
MOST_POINTS = 400
"""Of a curve, which is about as many pixels wide."""


def lines(series: Mapping[str, Sequence[Curve]], title: str, x: str, y: str = "", probabilities: bool = False) -> str:
    """Named curves over one axis.

    Args:
        series: by name, one curve per seed; with several the mean is drawn strong and each seed faint. Positive
            values over more than two orders of magnitude are drawn on a logarithmic scale.
        probabilities: the values are, so that the scale goes from 0 to 1.
    """

    def draw(axes: Axes) -> None:
        handles = []
        for number, curves in enumerate(series.values()):
            colour, dash = SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]
            if len(curves) > 1:
                for curve in curves:
                    axes.plot(*_columns(thinned(curve)), color=colour, linewidth=0.9, alpha=0.35)
            mean = curves[0] if len(curves) == 1 else mean_curve(curves)
            marker = "o" if len(mean) == 1 else None
            handles += axes.plot(*_columns(thinned(mean)), color=colour, linestyle=dash, linewidth=1.8, marker=marker)
        heights = [height for curves in series.values() for curve in curves for _, height in curve]
        if probabilities:
            axes.set_ylim(0, 1)
        else:
            scale_upright(axes, heights)
        if y.endswith("%"):
            widen(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        far = max(at for curves in series.values() for curve in curves for at, _ in curve) >= 10_000
        axes.xaxis.set_major_locator(MaxNLocator(4 if far else "auto", integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if len(series) > 1:
            legend(axes, handles, list(series))

    return picture(title, draw)


def shared_out(series: Mapping[str, Sequence[Curve]]) -> Iterator[dict[str, Sequence[Curve]]]:
    """Those of each picture, few enough that each has a look of its own."""
    named = list(series.items())
    count = -(-len(named) // len(SERIES))
    for part in range(count):
        yield dict(named[part * len(named) // count : (part + 1) * len(named) // count])


def scale_upright(axes: Axes, heights: Sequence[float]) -> None:
    """A logarithmic scale for positive values over more than two orders of magnitude, e.g. losses."""
    if wide(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def scale_along(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale for positive values, named in plain numbers at both ends and between."""
    low, high = min(values), max(values)
    if low <= 0:
        return
    axes.set_xscale("log")
    margin = min(1.4, max(1.002, (high / low) ** 0.25))  # values of about one size fill the picture too
    axes.set_xlim(low / margin, high * margin)
    ticks = sorted({low, high} | ({(low * high) ** 0.5} if high > 3 * low else set()))
    axes.set_xticks(ticks, [f"{tick:,.0f}" if tick >= 100 else f"{tick:.3g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    if low < high < 1.3 * low:  # side by side, as the one would cover the other
        first, last = axes.get_xticklabels()
        first.set_horizontalalignment("right")
        last.set_horizontalalignment("left")


def widen(axes: Axes) -> None:
    """Show at least `FEWEST_POINTS` of percent, so that an image or two of a small test set stay small."""
    low, high = axes.get_ylim()
    middle = min(max((low + high) / 2, FEWEST_POINTS / 2), 100.5 - FEWEST_POINTS / 2)
    axes.set_ylim(min(low, middle - FEWEST_POINTS / 2), max(high, middle + FEWEST_POINTS / 2))


def wide(values: Sequence[float]) -> bool:
    """Whether values are positive and span more than two orders of magnitude."""
    return 0 < 100 * min(values) < max(values)


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean over curves at every x that all of them have."""
    tables = [dict(curve) for curve in curves]
    shared = set(tables[0]).intersection(*tables[1:])
    return [(at, sum(table[at] for table in tables) / len(tables)) for at in sorted(shared)]


def thinned(curve: Curve) -> Curve:
    """The curve with at most `MOST_POINTS`: its ends, and of each stretch the lowest and the highest, so that no peak
    is lost."""
    if len(curve) <= MOST_POINTS:
        return curve
    stretches = MOST_POINTS // 2 - 1
    kept = {0, len(curve) - 1}
    for number in range(stretches):
        places = range(number * len(curve) // stretches, (number + 1) * len(curve) // stretches)
        kept |= {min(places, key=lambda at: curve[at][1]), max(places, key=lambda at: curve[at][1])}
    return [curve[at] for at in sorted(kept)]


def bars(groups: Mapping[str, Sequence[float]], names: Sequence[str], title: str, x: str, y: str) -> str:
    """Bars side by side, e.g. the width of every unit before and after growth.

    Args:
        groups: by name, one height per entry of `names`.
    """

    def draw(axes: Axes) -> None:
        width = 0.8 / max(len(groups), 1)
        handles = []
        for number, heights in enumerate(groups.values()):
            at = np.arange(len(heights)) + (number - (len(groups) - 1) / 2) * width
            # From pale to strong, so that before and after differ in print and without colour as well.
            alpha = 0.45 + 0.55 * (number + 1) / len(groups) if len(groups) > 1 else 1.0
            handles.append(axes.bar(at, heights, width * 0.92, color=SERIES[number % len(SERIES)], alpha=alpha))
        axes.set_xticks(range(len(names)), [shortened(name) for name in names])
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(False, axis="x")
        if len(groups) > 1:
            legend(axes, handles, list(groups))

    return picture(title, draw)


def pareto_front(places: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of those (cost, value) that no other is as good as in both and better in one, cheapest first.

    Examples:
        >>> pareto_front({"small": (1, 90), "worse": (2, 80), "large": (3, 95), "larger": (4, 95)})
        ['small', 'large']
    """
    front: list[str] = []
    for name in sorted(places, key=lambda name: (places[name][0], -places[name][1])):
        if not front or places[name][1] > places[front[-1]][1]:
            front.append(name)
    return front


def scatter(
    points: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    x: str,
    y: str,
    front: bool = False,
    kinds: Mapping[str, str] | None = None,
) -> str:
    """Named points, e.g. accuracy over parameters of every stage; x is logarithmic.

    Args:
        points: a name without any is left out, and the colours of the others stay.
        front: join the means of the names that no other beats in both, less of x and more of y.
        kinds: what each name is of, where names are too many for looks of their own; a kind has one.
    """
    shown = {name: places for name, places in points.items() if places}
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for name, places in points.items():
        by_kind.setdefault(kinds[name] if kinds else name, []).extend(places)

    def draw(axes: Axes) -> None:
        handles = {}
        for number, (kind, places) in enumerate(by_kind.items()):
            if places:
                marker = "osD^vPX*"[number % 8]
                handles[kind] = axes.scatter(*_columns(places), s=46, color=SERIES[number % len(SERIES)], marker=marker)
        if front:
            means = {name: (fmean(xs), fmean(ys)) for name, places in shown.items() for xs, ys in [_columns(places)]}
            axes.plot(*_columns([means[name] for name in pareto_front(means)]), color=INK, linewidth=1, linestyle=":")
        scale_along(axes, [value for places in shown.values() for value, _ in places])
        axes.margins(y=0.15)
        if y.endswith("%"):
            widen(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        legend(axes, list(handles.values()), list(handles))

    return picture(title, draw)


def in_order(series: Mapping[str, Sequence[Curve]], names: Sequence[str], title: str, y: str) -> str:
    """Values of things that have an order and a name, e.g. the accuracy of generations.

    Args:
        series: by name, one curve per seed whose x are places in `names`. The mean over the seeds that have a value
            there is drawn strong; with several, each seed is faint. A name without any value is left out, and the
            colours of the others stay.
    """

    def draw(axes: Axes) -> None:
        handles = {}
        for number, (name, of_seeds) in enumerate(series.items()):
            colour, marker = SERIES[number % len(SERIES)], "osD^vPX*"[number % 8]
            curves = [curve for curve in of_seeds if curve]
            if not curves:
                continue
            if len(curves) > 1:
                for curve in curves:
                    axes.plot(*_columns(curve), color=colour, marker=marker, markersize=3, linewidth=0.9, alpha=0.35)
            by_place: dict[float, list[float]] = {}
            for at, value in sorted(point for curve in curves for point in curve):
                by_place.setdefault(at, []).append(value)
            means = [sum(values) / len(values) for values in by_place.values()]
            (handles[name],) = axes.plot(
                list(by_place), means, color=colour, marker=marker, markersize=6, linewidth=1.8
            )
        name_places(axes, names)
        axes.set_xlim(-0.4, len(names) - 0.6)
        axes.margins(y=0.12)
        axes.set_ylabel(y)
        if len(series) > 1:
            legend(axes, list(handles.values()), list(handles))

    return picture(title, draw, size=(4.4, 3.6))


def name_places(axes: Axes, names: Sequence[str]) -> None:
    """A name at each place of the x axis, tilted where neighbours would touch."""
    names = [shortened(name) for name in names]
    widest = max(((len(one) + len(other)) / 2 for one, other in pairwise(names)), default=0)
    tilt: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if widest * len(names) > 45 else {}
    axes.set_xticks(range(len(names)), names, **tilt)


def picture(
    title: str, draw: Callable[[Axes], None], size: tuple[float, float] = (4.4, 3.0), legible: bool = False
) -> str:
    """Draw on fresh axes and return one SVG element that stands alone or within a page.

    Args:
        size: in inches.
        legible: never shrunk below a pixel per point, so that a narrow page must be scrolled.
    """
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The reader's browser chooses the font; what matplotlib's own lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=size)
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(shortened(title, 60))
        ConstrainedLayoutEngine().execute(figure)  # `savefig` would draw all of it once more for that
        buffer = io.StringIO()
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.print_svg(buffer, metadata=none)  # type: ignore[no-untyped-call]
    return _themed(buffer.getvalue(), title, narrowest=72 * size[0] if legible else None)


def _themed(text: str, title: str, narrowest: float | None) -> str:
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", svg)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" '
        f'aria-label="{escape(title)}" stroke-linejoin="round"'
    )
    if narrowest is not None:
        head += f' style="min-width: {narrowest:.0f}px"'
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    return f"{head}>{body}".strip()


def legend(axes: Axes, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Names below the axes; given with their handles, as matplotlib would drop names that begin with `_`."""
    columns = 2 if max(map(len, names)) > 16 else min(3, len(names))
    axes.figure.legend(
        handles,
        [shortened(name, keep_end=True) for name in names],  # stages of a sweep differ in their ends
        loc="outside lower center",
        ncols=columns,
        fontsize=9,
    )


def shortened(text: str, longest: int = LONGEST_NAME, keep_end: bool = False) -> str:
    """One line of printable letters, cut with an ellipsis where it is longer: at its end, or inside to keep that."""
    one_line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(one_line) <= longest:
        return one_line
    head = longest // 3 if keep_end else longest - 1
    return one_line[:head] + "\N{HORIZONTAL ELLIPSIS}" + one_line[len(one_line) - (longest - 1 - head) :]


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in curve], [y for _, y in curve]


def rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue
