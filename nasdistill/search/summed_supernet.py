"""The supernet of NAS-Bench-201: stages of mixed cells whose nodes are sums, between residual blocks.

Source: Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326), section 2.1, and its released searches.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.genotypes import Cell
from nasdistill.models.layers import Stem, copy_into
from nasdistill.models.summed_cells import Reduction, SummedCell, SummedNetwork
from nasdistill.search.cell_supernet import CellSupernet, MixedNodes
from nasdistill.search.edges import Edges
from nasdistill.search.mixture import Mixture
from nasdistill.search.samplers import Sampler
from nasdistill.search.spaces.summed_cells import SummedSpace


class MixedSum(MixedNodes):
    """A cell with all edges and all operations, whose output is its last node."""

    def __init__(self, space: SummedSpace, width: int, edges: Edges) -> None:
        super().__init__()
        self.add_edges(space, "normal", width, edges, stride=1)

    def forward(self, features: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        return self.nodes([features], mixture)[-1]


class SummedSupernet(CellSupernet):
    """Stem, stages of mixed cells with a residual block before each but the first, BN-ReLU, global average, linear.

    Attributes:
        blocks: what leads to each stage; nothing has to lead to the first one.
        stages: the cells of each.
    """

    def __init__(
        self,
        space: SummedSpace,
        shape: Shape,
        classes: int,
        *,
        sampler: Sampler | None = None,
        edges: Edges | None = None,
        edge_normalisation: bool = False,
    ) -> None:
        super().__init__(space, sampler, edges)
        widths = [space.search_channels * 2**stage for stage in range(space.stages)]
        self.stem = Stem(shape[0], widths[0])
        reductions = (Reduction(before, after) for before, after in itertools.pairwise(widths))
        self.blocks = nn.ModuleList([nn.Identity(), *reductions])
        self.stages = nn.ModuleList(
            nn.ModuleList(MixedSum(space, width, self.edges) for _ in range(space.search_cells)) for width in widths
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], classes)
        self.complete(edge_normalisation)

    def logits(self, images: torch.Tensor, mixtures: Mapping[str, Mixture]) -> torch.Tensor:
        (mixture,) = mixtures.values()
        features = self.stem(images)
        for block, stage in zip(self.blocks, self.stages, strict=True):
            assert isinstance(stage, nn.ModuleList)
            features = block(features)
            for cell in stage:
                features = cell(features, mixture)
        logits: torch.Tensor = self.classifier(functional.relu(self.norm(features)).mean(dim=(2, 3)))
        return logits

    @torch.no_grad()
    def hand_over(self, cells: Mapping[str, Cell], network: nn.Module) -> None:
        assert isinstance(network, SummedNetwork)
        for name in ("stem", "norm", "classifier"):
            copy_into(getattr(network, name), getattr(self, name))
        (cell,) = cells.values()
        for block, mixed, stage in zip(self.blocks, self.stages, network.stages, strict=True):
            assert isinstance(stage, nn.Sequential)
            plain = [module for module in stage if isinstance(module, SummedCell)]
            for into in list(stage)[: -len(plain)]:
                copy_into(into, block)
            for own, other in zip(cast(nn.ModuleList, mixed), plain, strict=True):
                assert isinstance(own, MixedSum)
                own.hand_over(cell, (cast(nn.ModuleDict, node).values() for node in other.nodes))
