"""Parts of a search: a sampler that perturbs the architecture, a regulariser, edges with a skip, and a selection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from nasdistill.models.genotypes import Cell
from nasdistill.search.edges import EDGES, Edges
from nasdistill.search.fan import Fan
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.regularisers import REGULARISERS, Regulariser
from nasdistill.search.samplers import SAMPLERS, Sampler
from nasdistill.search.selections import SELECTIONS, Selection
from nasdistill.search.selections.strongest import strongest_cell
from nasdistill.search.spaces.cells import CellSpace


@SAMPLERS.register("jittered")
class Jittered(Sampler):
    """The softmax of alphas that are moved at random while the network's weights learn."""

    source = "Chen and Hsieh 2020, SDARTS (arXiv:2002.05283), random smoothing"

    reach: float = Field(0.03, gt=0, description="how far an alpha moves at the end of the search")

    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        if moment.half == "training":
            alphas = alphas + self.reach * moment.progress * (2 * torch.rand_like(alphas) - 1)
        return alphas.softmax(dim=1)


@REGULARISERS.register("entropy")
class Entropy(Regulariser):
    """Mean over the edges of their weights' entropy: drives a search towards a decision."""

    def loss(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        return torch.special.entr(mixture.weights).sum(dim=1).mean()


class WithSkip(Fan):
    """Adds the state itself to each edge; ever less of it, and nothing at the end or where the stride is not 1."""

    def forward(self, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        mixed = super().forward(state, mixture)
        return mixed if self.stride > 1 else mixed + (1 - mixture.moment.progress) * state.repeat(1, self.edges, 1, 1)


@EDGES.register("auxiliary-skip")
class AuxiliarySkip(Edges):
    """An edge's skip connection need not win to keep the supernet trainable: there is another one."""

    source = "Chu et al. 2021, DARTS- (arXiv:2009.01027)"

    def fan(self, space: CellSpace, channels: int, edges: Sequence[Sequence[str]], stride: int) -> nn.Module:
        return WithSkip(space, channels, edges, stride)


@SELECTIONS.register("above-threshold")
class AboveThreshold(Selection):
    """As `strongest`, without the edges that are too weak; each node keeps its strongest one."""

    source = "Chu et al. 2020, Fair DARTS (arXiv:1911.12126)"

    threshold: float = Field(
        0.85, ge=0, le=1, description="the least strength of a node's second edge and further ones"
    )

    def cell(self, space: CellSpace, mixture: Mixture) -> Cell:
        strengths = mixture.strengths()

        def strength(node: int, operation: str, state: int) -> float:
            row = space.edges().index((state, node))
            return float(strengths[row, space.offered(mixture.cell)[row].index(operation)])

        return tuple(
            (first, *(edge for edge in others if strength(node, *edge) >= self.threshold))
            for node, (first, *others) in enumerate(strongest_cell(space, mixture.cell, strengths))
        )
