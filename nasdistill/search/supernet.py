"""The supernet of DARTS: one network that holds every candidate at once, mixed by weights that are learned.

Source: Liu et al. 2019, DARTS, section 2.2 and the released code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.cells import Cell as PlainCell
from nasdistill.models.cells import DartsNetwork
from nasdistill.models.genotypes import Cell
from nasdistill.models.layers import FactorizedReduce, ReLUConvNorm, Stem, copy_into
from nasdistill.search.cell_supernet import CellSupernet, MixedNodes
from nasdistill.search.edges import Edges
from nasdistill.search.mixture import Mixture
from nasdistill.search.samplers import Sampler
from nasdistill.search.spaces.darts_cells import DartsSpace


class MixedCell(MixedNodes):
    """A cell with all edges and all operations, from the two cells before it."""

    def __init__(
        self,
        space: DartsSpace,
        channels: tuple[int, int],
        width: int,
        reduction: bool,
        after_reduction: bool,
        edges: Edges,
    ) -> None:
        super().__init__()
        before_last, last = channels
        self.reduction = reduction
        self.preprocess0 = (FactorizedReduce if after_reduction else ReLUConvNorm)(before_last, width, affine=False)
        self.preprocess1 = ReLUConvNorm(last, width, affine=False)
        kind, stride = ("reduce", 2) if reduction else ("normal", 1)
        self.add_edges(space, kind, width, edges, stride)

    def forward(self, before_last: torch.Tensor, last: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """The nodes beside each other, [N, nodes * width, H', W']."""
        return torch.cat(self.nodes([self.preprocess0(before_last), self.preprocess1(last)], mixture), dim=1)


class Supernet(CellSupernet):
    """Stem, mixed cells, global average pool, classifier."""

    space: DartsSpace

    def __init__(
        self,
        space: DartsSpace,
        shape: Shape,
        classes: int,
        *,
        sampler: Sampler | None = None,
        edges: Edges | None = None,
        edge_normalisation: bool = False,
    ) -> None:
        super().__init__(space, sampler, edges)
        stem = space.stem_multiplier * space.search_channels
        self.stem = Stem(shape[0], stem)
        reductions = {space.search_cells // 3, 2 * space.search_cells // 3}
        width = space.search_channels
        channels = (stem, stem)
        self.cells = nn.ModuleList()
        for index in range(space.search_cells):
            width *= 2 if index in reductions else 1
            self.cells.append(self.make_cell(channels, width, index in reductions, index - 1 in reductions))
            channels = (channels[1], space.nodes * width)
        self.classifier = nn.Linear(channels[1], classes)
        self.complete(edge_normalisation)

    def make_cell(self, channels: tuple[int, int], width: int, reduction: bool, after_reduction: bool) -> nn.Module:
        """A mixed cell, from the channels of the two cells before it to `width` a node."""
        return MixedCell(self.space, channels, width, reduction, after_reduction, self.edges)

    def logits(self, images: torch.Tensor, mixtures: Mapping[str, Mixture]) -> torch.Tensor:
        before_last = last = self.stem(images)
        for cell in self.cells:
            kind = "reduce" if cell.reduction else "normal"
            before_last, last = last, cell(before_last, last, mixtures[kind])
        return cast(torch.Tensor, self.classifier(functional.avg_pool2d(last, last.shape[2:]).flatten(1)))

    @torch.no_grad()
    def hand_over(self, cells: Mapping[str, Cell], network: nn.Module) -> None:
        assert isinstance(network, DartsNetwork)
        copy_into(network.stem, self.stem)
        copy_into(network.classifier, self.classifier)
        for mixed, plain in zip(self.cells, network.cells, strict=True):
            assert isinstance(mixed, MixedCell)
            assert isinstance(plain, PlainCell)
            copy_into(plain.preprocess0, mixed.preprocess0)
            copy_into(plain.preprocess1, mixed.preprocess1)
            kind = "reduce" if mixed.reduction else "normal"
            mixed.hand_over(cells[kind], cast(Iterable[nn.ModuleList], plain.edges))
