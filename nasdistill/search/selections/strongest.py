"""The strongest edges with their strongest operations, as many skip connections as may be."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.models.genotypes import Cell
from nasdistill.search.mixture import Mixture
from nasdistill.search.selections import SELECTIONS, Selection
from nasdistill.search.spaces.cells import SKIP, CellSpace

if TYPE_CHECKING:
    import torch


def strongest_cell(space: CellSpace, kind: str, strengths: torch.Tensor) -> Cell:
    """The cell that remains of a relaxed one.

    An edge is as strong as its best operation, other than `none` where no network keeps that. Each node keeps as many
    edges as the space says, strongest first, each with that operation. Of equals the earlier state, and the earlier
    operation, wins.

    Args:
        kind: of the cell.
        strengths: [edges, operations]; rows as in `CellSpace.edges`, columns as in `CellSpace.offered`.

    Source: Liu et al. 2019, DARTS, section 2.4 and the released code.
    """
    outcomes = space.outcomes()
    best: dict[int, list[tuple[float, int, str]]] = {node: [] for node in range(space.nodes)}
    for (state, node), names, row in zip(space.edges(), space.offered(kind), strengths.tolist(), strict=True):
        candidates = [(value, name) for name, value in zip(names, row, strict=True) if name in outcomes]
        strength, operation = max(candidates, key=itemgetter(0))
        best[node].append((-strength, state, operation))
    return tuple(
        tuple((operation, state) for _strength, state, operation in sorted(edges)[: space.kept(node)])
        for node, edges in best.items()
    )


def count_skips(cell: Cell) -> int:
    """How many edges of a cell are skip connections; too many mean that the search has collapsed."""
    return sum(operation == SKIP for edges in cell for operation, _state in edges)


@SELECTIONS.register("strongest")
class Strongest(Selection):
    """Each node keeps its strongest edges, each with its strongest operation other than `none`."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS (arXiv:1806.09055), section 2.4"

    def cell(self, space: CellSpace, mixture: Mixture) -> Cell:
        return strongest_cell(space, mixture.cell, mixture.strengths())


@SELECTIONS.register("capped-skips")
class CappedSkips(Selection):
    """As `strongest`; while a normal cell has too many skip connections, its weakest one counts 0."""

    source: ClassVar[str] = "Chen et al. 2019, P-DARTS (arXiv:1904.12760)"

    skips: int = Field(2, ge=0, description="skip connections that a normal cell may keep")

    def cell(self, space: CellSpace, mixture: Mixture) -> Cell:
        strengths = mixture.strengths().detach().clone()
        offered = space.offered(mixture.cell)
        cell = strongest_cell(space, mixture.cell, strengths)
        while mixture.cell == "normal" and count_skips(cell) > self.skips:
            kept = [
                (row, offered[row].index(SKIP))
                for row, (state, node) in enumerate(space.edges())
                if (SKIP, state) in cell[node]
            ]
            strong = [place for place in kept if strengths[place] >= 0]
            if not strong:  # the others have nothing to give way to
                break
            strengths[min(strong, key=lambda place: float(strengths[place]))] = -1.0  # below all others, which may be 0
            cell = strongest_cell(space, mixture.cell, strengths)
        return cell
