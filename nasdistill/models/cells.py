"""The network that a model `darts` describes: a stem, cells, a classifier."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.genotypes import Cell as CellEdges
from nasdistill.models.genotypes import Edge, Genotype
from nasdistill.models.layers import FactorizedReduce, ReLUConvNorm, concatenated
from nasdistill.models.operations import OPERATIONS, Operation


class Cell(nn.Module):
    """A cell: two earlier outputs in, the concatenation of its nodes out.

    Attributes:
        width: channels of each node.
        edges: per node, its operations in the genotype's order.
    """

    def __init__(
        self, genotype: CellEdges, channels: tuple[int, int], width: int, reduction: bool, after_reduction: bool
    ) -> None:
        super().__init__()
        before_last, last = channels
        self.width = width
        self.reduction = reduction
        self.inputs = [[state for _operation, state in edges] for edges in genotype]
        self.preprocess0 = (FactorizedReduce if after_reduction else ReLUConvNorm)(before_last, width)
        self.preprocess1 = ReLUConvNorm(last, width)
        self.edges = nn.ModuleList(
            nn.ModuleList(self._operation(edge, reduction) for edge in edges) for edges in genotype
        )

    def _operation(self, edge: Edge, reduction: bool) -> nn.Module:
        name, state = edge
        stride = 2 if reduction and state < 2 else 1
        operation: Operation = OPERATIONS.get(name)()
        return operation.build(self.width, stride, affine=True)

    @property
    def out_channels(self) -> int:
        return self.width * len(self.edges)

    def forward(self, before_last: torch.Tensor, last: torch.Tensor, drop_path: float) -> torch.Tensor:
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for node, inputs in zip(self.edges, self.inputs, strict=True):
            terms = []
            for operation, state in zip(cast(nn.ModuleList, node), inputs, strict=True):
                term = operation(states[state])
                # The published networks never drop an identity: some way through the cell must stay open.
                if self.training and drop_path > 0 and not isinstance(operation, nn.Identity):
                    term = drop_samples(term, drop_path)
                terms.append(term)
            states.append(sum(terms[1:], terms[0]))
        return concatenated(states[2:])


class AuxiliaryHead(nn.Sequential):
    """A classifier on the features at 2/3 of the depth; published for 8x8 maps, pooled to its 2x2 from any other."""

    def __init__(self, channels: int, classes: int, side: tuple[int, int]) -> None:
        pool = nn.AvgPool2d(5, stride=3) if side == (8, 8) else nn.AdaptiveAvgPool2d(2)
        super().__init__(
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        )


class DartsNetwork(nn.Module):
    """Stem, cells, global average pool, classifier.

    Args:
        widths: channels of each cell's nodes.
        reductions: the cells that halve the resolution.
        stem: channels of the stem.

    Attributes:
        drop_path: the probability that training raises `set_drop_path` to over its course.
        feature_points: the last cell of each resolution.
    """

    def __init__(
        self,
        genotype: Genotype,
        widths: Sequence[int],
        reductions: Collection[int],
        shape: Shape,
        classes: int,
        *,
        stem: int,
        auxiliary: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self._drop_path_now = 0.0
        self.stem = nn.Sequential(nn.Conv2d(shape[0], stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        channels = (stem, stem)
        cells: list[Cell] = []
        for index, width in enumerate(widths):
            reduction = index in reductions
            edges = genotype.reduce if reduction else genotype.normal
            cell = Cell(edges, channels, width, reduction, index - 1 in reductions)
            channels = (channels[1], cell.out_channels)
            cells.append(cell)
        self.cells = nn.ModuleList(cells)
        self.classifier = nn.Linear(channels[1], classes)
        self.feature_points = tuple(
            f"cells.{index}" for index in range(len(cells)) if index + 1 in reductions or index + 1 == len(cells)
        )
        self.auxiliary: AuxiliaryHead | None = None
        self._auxiliary_after = 2 * len(cells) // 3
        if auxiliary:
            halvings = sum(index <= self._auxiliary_after for index in reductions)
            side = (-(-shape[1] // 2**halvings), -(-shape[2] // 2**halvings))
            self.auxiliary = AuxiliaryHead(cells[self._auxiliary_after].out_channels, classes, side)

    def set_drop_path(self, probability: float) -> None:
        """From now on a sample loses the output of an edge with this probability, in training mode."""
        self._drop_path_now = probability

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._run(images, auxiliary=False)[0]

    def forward_with_auxiliary(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The logits, and those of the auxiliary head, or None if there is no such head."""
        return self._run(images, auxiliary=True)

    def _run(self, images: torch.Tensor, auxiliary: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        before_last = last = self.stem(images)
        auxiliary_logits = None
        for index, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last, self._drop_path_now)
            if auxiliary and self.auxiliary is not None and index == self._auxiliary_after:
                auxiliary_logits = self.auxiliary(last)
        return self.classifier(last.mean(dim=(2, 3))), auxiliary_logits


def drop_samples(x: torch.Tensor, probability: float) -> torch.Tensor:
    """Zero each sample of [N, C, H, W] with `probability`, and scale the others so that the expectation stays."""
    keep = torch.empty(len(x), 1, 1, 1, device=x.device, dtype=x.dtype).bernoulli_(1 - probability)
    return x * (keep / (1 - probability))
