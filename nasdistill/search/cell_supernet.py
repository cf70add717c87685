"""What the supernets of all families of cells share: mixed nodes, and the alphas of each kind of cell.

An edge from state x to a node carries the mixture of all its operations,

    sum_k  p_k * op_k(x),    p = softmax(alpha of this edge),

and a node is the sum of its edges. No batch norm of an edge learns a scale or a shift. Another sampler makes other
weights of the alphas, other edges do something else with them.

The edges that leave one state are computed together, a fan, see `nasdistill.search.fan`. The terms of all nodes
that a state reaches lie beside each other, so adding a state to its nodes is one addition.

Source: Liu et al. 2019, DARTS, section 2.2 and the released code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import nn

from nasdistill.models.genotypes import Cell
from nasdistill.search.edges import Edges
from nasdistill.search.edges.channels import Dense
from nasdistill.search.fan import Fan
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.samplers import Sampler
from nasdistill.search.samplers.relaxations import Softmax
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.weight_sharing import WeightSharing

INITIAL_SPREAD = 1e-3
"""Standard deviation of the first alphas: small enough that all operations start about equal."""


class MixedNodes(nn.Module):
    """The nodes of a cell with all edges and all operations.

    Attributes:
        fans: for each state that has edges to nodes, those edges.
    """

    def add_edges(self, space: CellSpace, kind: str, width: int, edges: Edges, stride: int) -> None:
        """`stride` is that of the edges from the cell's inputs."""
        offered = space.offered(kind)
        self.width = width
        self.row_of = {edge: row for row, edge in enumerate(space.edges())}
        self.rows = [
            [row for row, (origin, _node) in enumerate(space.edges()) if origin == state]
            for state in range(space.inputs + space.nodes - 1)
        ]
        self.fans = nn.ModuleList(
            edges.fan(space, width, [offered[row] for row in rows], stride=stride if state < space.inputs else 1)
            for state, rows in enumerate(self.rows)
        )

    def nodes(self, inputs: Sequence[torch.Tensor], mixture: Mixture) -> list[torch.Tensor]:
        """Each [N, width, H', W'].

        Args:
            inputs: [N, width, H, W] each.
            mixture: of the edges of this kind of cell.
        """
        # The sums of all nodes that are still incomplete, beside each other.
        pending = self._of(0, inputs[0], mixture)
        nodes: list[torch.Tensor] = []
        for index in range(1, len(self.fans)):
            if index < len(inputs):
                state = inputs[index]
            else:
                state, pending = torch.split(pending, [self.width, pending.shape[1] - self.width], dim=1)
                nodes.append(state)
            pending = pending + self._of(index, state, mixture)
        return [*nodes, pending]

    def hand_over(self, cell: Cell, nodes: Iterable[Iterable[nn.Module]]) -> None:
        """Copy the weights of the edges that a cell keeps into its operations, which are given by node in its order."""
        for node, (edges, operations) in enumerate(zip(cell, nodes, strict=True)):
            for (name, state), operation in zip(edges, operations, strict=True):
                row = self.row_of[state, node]
                cast(Fan, self.fans[state]).hand_over(self.rows[state].index(row), name, operation)

    def _of(self, index: int, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """What the edges of a state carry to their nodes."""
        own = mixture.of(self.rows[index])
        carried: torch.Tensor = self.fans[index](state, own)
        return carried if own.shares is None else carried * own.shares.repeat_interleave(self.width)[:, None, None]


class CellSupernet(WeightSharing):
    """Base of the supernets of spaces of cells.

    Its batch norms know the present batch only, in evaluation mode too: nobody keeps these weights, and running
    statistics would mix in the batches at the shifted weights of a second-order search.

    `decided` holds by (kind, edge) the one operation that is left there, by its column, or None where nothing is.

    The alphas of a kind of cell are the parameter of its name, [edges, operations]; the operations of an edge, which
    its columns stand for, are those of `CellSpace.offered`. Where edges are normalised, the parameter `<kind>_edges` is
    what their shares are a softmax of, [edges].
    """

    def __init__(self, space: CellSpace, sampler: Sampler | None, edges: Edges | None) -> None:
        super().__init__()
        self.space = space
        self.sampler = sampler or Softmax()
        self.edges = edges or Dense()
        self.decided: dict[tuple[str, int], int | None] = {}

    def complete(self, edge_normalisation: bool) -> None:
        """Called when all modules are there: draw the alphas, and let the batch norms keep no statistics."""
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.track_running_stats = False
                norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        edges = len(self.space.edges())
        for kind in self.space.kinds:
            size = (edges, len(self.space.offered(kind)[0]))
            self.register_parameter(kind, nn.Parameter(INITIAL_SPREAD * torch.randn(size)))
        for kind in self.space.kinds:
            spread = nn.Parameter(INITIAL_SPREAD * torch.randn(edges)) if edge_normalisation else None
            self.register_parameter(f"{kind}_edges", spread)

    def alphas(self) -> list[nn.Parameter]:
        names = [*self.space.kinds, *(f"{kind}_edges" for kind in self.space.kinds)]
        return [alpha for name in names if (alpha := getattr(self, name)) is not None]

    def mixture(self, moment: Moment) -> tuple[Mixture, ...]:
        """What the edges of each kind of cell carry: for forward passes, curves and the end alike."""
        sparse = bool(moment.half) and self.sampler.sparse()
        mixtures = []
        for kind in self.space.kinds:
            alphas, of_edges, shares = getattr(self, kind), getattr(self, f"{kind}_edges"), None
            weights = self._projected(kind, self.sampler.checked(alphas, moment))
            if of_edges is not None:
                nodes = torch.split(of_edges, [node + self.space.inputs for node in range(self.space.nodes)])
                shares = torch.cat([node.softmax(dim=0) for node in nodes])
            computed = weights.ne(0).tolist() if sparse else None
            mixtures.append(Mixture(kind, moment, alphas, weights, shares, computed))
        return tuple(mixtures)

    def _projected(self, kind: str, weights: torch.Tensor) -> torch.Tensor:
        """With weight 1 of what is decided, and 0 of all else on those edges."""
        rows = {row: column for (cell, row), column in self.decided.items() if cell == kind}
        if not rows:
            return weights
        free, fixed = torch.ones_like(weights), torch.zeros_like(weights)
        free[list(rows)] = 0
        for row, column in rows.items():
            if column is not None:
                fixed[row, column] = 1
        return weights * free + fixed

    def forward(self, images: torch.Tensor, mixtures: Sequence[Mixture] | None = None) -> torch.Tensor:
        """Logits, with what `mixture` gave, or gives where nothing is drawn."""
        return self.logits(images, {mixture.cell: mixture for mixture in mixtures or self.mixture(Moment())})

    def logits(self, images: torch.Tensor, mixtures: Mapping[str, Mixture]) -> torch.Tensor:
        """With mixtures by kind of cell."""
        raise NotImplementedError(type(self).__name__)

    def hand_over(self, cells: Mapping[str, Cell], network: nn.Module) -> None:
        """Copy the weights of its edges, and of all around them, into a network of these cells and of its own size.

        That then computes what the supernet does with its operations alone at weight 1, but for the batch norms that a
        supernet may have behind pools, and a network has not.
        """
        raise NotImplementedError(type(self).__name__)
