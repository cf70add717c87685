"""From the weights of a relaxed search to a genotype."""

from __future__ import annotations

import torch

from nasdistill.models.genotypes import Cell, Genotype
from nasdistill.search.spaces.cells import NONE, SKIP, CellSpace


def discretise_cell(space: CellSpace, weights: torch.Tensor) -> Cell:
    """The cell that remains of a relaxed one.

    An edge is as strong as its best operation other than `none`. Each node keeps its `edges_per_node` strongest edges,
    strongest first, each with that operation. Of equals the earlier state, and the earlier operation, wins.

    Args:
        weights: [edges, operations], softmax over the operations; rows as in `CellSpace.edges`.

    Source: Liu et al. 2019, DARTS, section 2.4 and the released code.
    """
    candidates = [index for index, name in enumerate(space.operations) if name != NONE]
    best: dict[int, list[tuple[float, int, str]]] = {node: [] for node in range(space.nodes)}
    for (state, node), row in zip(space.edges(), weights.tolist(), strict=True):
        strongest = max(candidates, key=lambda index: row[index])
        best[node].append((-row[strongest], state, space.operations[strongest]))
    return tuple(
        tuple((operation, state) for _strength, state, operation in sorted(edges)[: space.edges_per_node])
        for edges in best.values()
    )


def discretise(space: CellSpace, normal: torch.Tensor, reduce: torch.Tensor) -> Genotype:
    """Both cells; see `discretise_cell`."""
    return Genotype(normal=discretise_cell(space, normal), reduce=discretise_cell(space, reduce))


def count_skips(cell: Cell) -> int:
    """How many edges of a cell are skip connections; too many mean that the search has collapsed."""
    return sum(operation == SKIP for edges in cell for operation, _state in edges)


def entropy(weights: torch.Tensor) -> float:
    """Mean over the edges of the entropy of their operations' weights [edges, operations], in nats."""
    return float(torch.special.entr(weights).sum(dim=1).mean().item())
