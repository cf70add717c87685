"""Which supernet a space of cells has."""

from __future__ import annotations

from nasdistill.data.base import Shape
from nasdistill.search.cell_supernet import CellSupernet
from nasdistill.search.edges import Edges
from nasdistill.search.samplers import Sampler
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.spaces.darts_cells import DartsSpace
from nasdistill.search.spaces.summed_cells import SummedSpace
from nasdistill.search.summed_supernet import SummedSupernet
from nasdistill.search.supernet import Supernet


def supernet_of(
    space: CellSpace,
    shape: Shape,
    classes: int,
    *,
    sampler: Sampler | None = None,
    edges: Edges | None = None,
    edge_normalisation: bool = False,
) -> CellSupernet:
    """The supernet of a space's family."""
    if isinstance(space, SummedSpace):
        return SummedSupernet(
            space, shape, classes, sampler=sampler, edges=edges, edge_normalisation=edge_normalisation
        )
    assert isinstance(space, DartsSpace)
    return Supernet(space, shape, classes, sampler=sampler, edges=edges, edge_normalisation=edge_normalisation)
