"""Cells as they formed while they were searched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nasdistill.models.base import MODELS
from nasdistill.models.genotypes import CellGraph
from nasdistill.report.parts import Group
from nasdistill.report.payloads import HistoryPayload, by_seed
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.report.sections.cells import GenotypePayload
from nasdistill.search.drawing import draw_graph

MOMENTS = 6
"""Most drawings of one kind of cell."""


@SECTIONS.register("forming")
class Forming(Section):
    """The cells that a search would have found after some of its epochs or trials."""

    title = "How the cells formed"
    lead = (
        "The cells that would have been found after so many epochs, or trials. An edge changes by its operation or its "
        "state."
    )
    payload = GenotypePayload
    place = 52

    def of_seed(self, heading: str, payload: GenotypePayload, row: Row) -> list[Group]:
        read = by_seed(HistoryPayload, [row])  # a damaged one is named where its curves would be
        history = read[row.seed] if read else HistoryPayload(curves={})
        genotypes = [(x, MODELS.parse(model).cell_genotype()) for x, model in history.found]
        graphs = [(x, genotype.graphs()) for x, genotype in genotypes if genotype is not None]
        xs = [x for x, _ in graphs]
        columns = zip(*(cells for _, cells in graphs), strict=True)
        return [_group(heading, history.found_x, xs, cells) for cells in columns]


def _group(heading: str, name: str, xs: Sequence[float], cells: Sequence[CellGraph]) -> Group:
    changes = [changed_edges(before, after) for before, after in pairwise(cells)]
    shown = moments(changes)
    note = f"Changes up to {name} {xs[-1]:g}: {sum(map(bool, changes))}."
    if sum(map(bool, changes[:-1])) > MOMENTS - 2:
        note += " Shown are the first, the last, and those in between after which most edges were new."
    return Group(
        f"{heading}: {cells[0].title}",
        tuple(draw_graph(cells[number]) for number in shown),
        captions=tuple(f"{name} {xs[number]:g}" for number in shown),
        note=note,
        wide=True,
    )


def changed_edges(before: CellGraph, after: CellGraph) -> int:
    """How many edges of a cell are not in the one before it.

    Examples:
        >>> one = CellGraph("normal", "", ((("skip_connect", 0), ("max_pool_3x3", 1)),), 2, range(1))
        >>> changed_edges(one, one._replace(edges=((("skip_connect", 1), ("max_pool_3x3", 1)),)))
        1
    """
    return sum(len(set(now) - set(then)) for then, now in zip(before.edges, after.edges, strict=True))


def moments(changes: Sequence[int], most: int = MOMENTS) -> list[int]:
    """Which of some cells tell most of how they formed: the first, the last, and those that differ most.

    Args:
        changes: how much each but the first differs from the one before.

    Examples:
        >>> moments([0, 3, 1, 0, 2, 0], most=4)
        [0, 2, 5, 6]
        >>> moments([])
        [0]
    """
    inner = [number for number, change in enumerate(changes[:-1], 1) if change]
    inner.sort(key=lambda number: changes[number - 1], reverse=True)
    return sorted({0, *inner[: most - 2], len(changes)})
