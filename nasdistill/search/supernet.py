"""The supernet of DARTS: one network that holds every candidate at once, mixed by weights that are learned.

An edge from state x to a node carries the mixture of all its operations,

    sum_k  p_k * op_k(x),    p = softmax(alpha of this edge),

and a node is the sum of its edges. Pools are followed by a batch norm; no batch norm learns a scale or a shift. Another
sampler makes other weights of the alphas, other edges do something else with them.

The edges that leave one state are computed together, a fan, see `nasdistill.search.fan`. The terms of all nodes
that a state reaches lie beside each other, so adding a state to its nodes is one addition.

Source: Liu et al. 2019, DARTS, section 2.2 and the released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.layers import FactorizedReduce, ReLUConvNorm
from nasdistill.search.edges import Edges
from nasdistill.search.edges.channels import Dense
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.samplers import Sampler
from nasdistill.search.samplers.relaxations import Softmax
from nasdistill.search.spaces.cells import CELLS, CellSpace
from nasdistill.search.weight_sharing import WeightSharing

INITIAL_SPREAD = 1e-3
"""Standard deviation of the first alphas: small enough that all operations start about equal."""


class MixedCell(nn.Module):
    """A cell with all edges and all operations.

    Attributes:
        fans: for each state that has edges to nodes, those edges.
    """

    def __init__(
        self,
        space: CellSpace,
        channels: tuple[int, int],
        width: int,
        reduction: bool,
        after_reduction: bool,
        edges: Edges,
    ) -> None:
        super().__init__()
        before_last, last = channels
        self.width = width
        self.reduction = reduction
        self.preprocess0 = (FactorizedReduce if after_reduction else ReLUConvNorm)(before_last, width, affine=False)
        self.preprocess1 = ReLUConvNorm(last, width, affine=False)
        self.rows = [
            [row for row, (origin, _node) in enumerate(space.edges()) if origin == state]
            for state in range(space.nodes + 1)
        ]
        self.fans = nn.ModuleList(
            edges.fan(space, width, len(rows), stride=2 if reduction and state < 2 else 1)
            for state, rows in enumerate(self.rows)
        )

    def forward(self, before_last: torch.Tensor, last: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """The nodes beside each other, [N, nodes * width, H', W'].

        Args:
            before_last, last: outputs of the two cells before.
            mixture: of the edges of this kind of cell.
        """
        state = self.preprocess0(before_last)
        # The sums of all nodes that are still incomplete, beside each other.
        pending = self._of(0, state, mixture)
        state = self.preprocess1(last)
        nodes = []
        for index in range(1, len(self.fans)):
            pending = pending + self._of(index, state, mixture)
            if pending.shape[1] > self.width:
                state, pending = torch.split(pending, [self.width, pending.shape[1] - self.width], dim=1)
                nodes.append(state)
        return torch.cat([*nodes, pending], dim=1)

    def _of(self, index: int, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """What the edges of a state carry to their nodes."""
        own = mixture.of(self.rows[index])
        carried: torch.Tensor = self.fans[index](state, own)
        return carried if own.shares is None else carried * own.shares.repeat_interleave(self.width)[:, None, None]


class Supernet(WeightSharing):
    """Stem, mixed cells, global average pool, classifier.

    Its batch norms know the present batch only, in evaluation mode too: nobody keeps these weights, and running
    statistics would mix in the batches at the shifted weights of a second-order search.

    Attributes:
        normal: alphas of the normal cells, [edges, operations].
        reduce: alphas of the reduction cells, [edges, operations].
        normal_edges, reduce_edges: where edges are normalised, what their shares are a softmax of, [edges].
    """

    def __init__(
        self,
        space: CellSpace,
        shape: Shape,
        classes: int,
        *,
        sampler: Sampler | None = None,
        edges: Edges | None = None,
        edge_normalisation: bool = False,
    ) -> None:
        super().__init__()
        self.space = space
        self.sampler = sampler or Softmax()
        self.edges = edges or Dense()
        stem = space.stem_multiplier * space.search_channels
        self.stem = nn.Sequential(nn.Conv2d(shape[0], stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        reductions = {space.search_cells // 3, 2 * space.search_cells // 3}
        width = space.search_channels
        channels = (stem, stem)
        self.cells = nn.ModuleList()
        for index in range(space.search_cells):
            width *= 2 if index in reductions else 1
            self.cells.append(self.make_cell(channels, width, index in reductions, index - 1 in reductions))
            channels = (channels[1], space.nodes * width)
        self.classifier = nn.Linear(channels[1], classes)
        _forget_statistics(self)
        size = (len(space.edges()), len(space.operations))
        self.normal = nn.Parameter(INITIAL_SPREAD * torch.randn(size))
        self.reduce = nn.Parameter(INITIAL_SPREAD * torch.randn(size))
        for cell in CELLS:
            spread = nn.Parameter(INITIAL_SPREAD * torch.randn(size[0])) if edge_normalisation else None
            self.register_parameter(f"{cell}_edges", spread)

    def make_cell(self, channels: tuple[int, int], width: int, reduction: bool, after_reduction: bool) -> nn.Module:
        """A mixed cell, from the channels of the two cells before it to `width` a node."""
        return MixedCell(self.space, channels, width, reduction, after_reduction, self.edges)

    def alphas(self) -> list[nn.Parameter]:
        names = [*CELLS, *(f"{cell}_edges" for cell in CELLS)]
        return [alpha for name in names if (alpha := getattr(self, name)) is not None]

    def mixture(self, moment: Moment) -> tuple[Mixture, ...]:
        """What the edges of normal and of reduction cells carry: for forward passes, curves and the end alike."""
        sparse = bool(moment.half) and self.sampler.sparse()
        mixtures = []
        for cell in CELLS:
            alphas, of_edges, shares = getattr(self, cell), getattr(self, f"{cell}_edges"), None
            weights = self.sampler.checked(alphas, moment)
            if of_edges is not None:
                nodes = torch.split(of_edges, [node + 2 for node in range(self.space.nodes)])
                shares = torch.cat([node.softmax(dim=0) for node in nodes])
            computed = weights.ne(0).tolist() if sparse else None
            mixtures.append(Mixture(cell, moment, alphas, weights, shares, computed))
        return tuple(mixtures)

    def forward(self, images: torch.Tensor, mixtures: Sequence[Mixture] | None = None) -> torch.Tensor:
        """Logits, with what `mixture` gave, or gives where nothing is drawn."""
        normal, reduce = mixtures or self.mixture(Moment())
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, reduce if cell.reduction else normal)
        return cast(torch.Tensor, self.classifier(functional.avg_pool2d(last, last.shape[2:]).flatten(1)))


def _forget_statistics(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
