"""The network that a model `darts` describes: a stem, cells, a classifier; and the parts that it is made of."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.genotypes import Genotype
from nasdistill.models.layers import FactorizedReduce, ReLUConvNorm, Stem, concatenated
from nasdistill.models.operations import OPERATIONS, Operation
from nasdistill.models.scalable import Part


@dataclass(frozen=True)
class CellParts:
    """What a cell is made of.

    Attributes:
        reduction: it halves the resolution.
        operations: of each node, in the genotype's order.
        inputs: the states that these read.
        output: shape of the concatenation of the nodes.
    """

    reduction: bool
    preprocess: tuple[Part, Part]
    operations: tuple[tuple[Part, ...], ...]
    inputs: tuple[tuple[int, ...], ...]
    output: Shape


@dataclass(frozen=True)
class NetworkParts:
    """What a network is made of, beside an auxiliary head."""

    stem: Part
    cells: tuple[CellParts, ...]
    classifier: Part

    def __iter__(self) -> Iterator[Part]:
        yield self.stem
        for cell in self.cells:
            yield from (*cell.preprocess, *itertools.chain(*cell.operations))
        yield self.classifier


def network_parts(
    genotype: Genotype, widths: Sequence[int], reductions: Collection[int], shape: Shape, classes: int, stem: int
) -> NetworkParts:
    """The parts of a network.

    Args:
        widths: channels of each cell's nodes.
        reductions: the cells that halve the resolution.
        stem: channels of the stem.
    """
    before_last = last = (stem, *shape[1:])
    cells = []
    for index, width in enumerate(widths):
        cell = _cell_parts(genotype, (before_last, last), width, index in reductions, index - 1 in reductions)
        before_last, last = last, cell.output
        cells.append(cell)
    return NetworkParts(
        Part(Stem, (shape[0], stem), shape), tuple(cells), Part(nn.Linear, (last[0], classes), (1, 1, last[0]))
    )


def _cell_parts(
    genotype: Genotype, reads: tuple[Shape, Shape], width: int, reduction: bool, after_reduction: bool
) -> CellParts:
    nodes = genotype.reduce if reduction else genotype.normal
    before_last, last = reads
    _, rows, columns = last
    state = (width, rows, columns)
    node = (width, -(-rows // 2), -(-columns // 2)) if reduction else state

    def operation(name: str, number: int) -> Part:
        stride, reads = (2 if reduction else 1, state) if number < 2 else (1, node)
        return Part(_operation, (OPERATIONS.get(name), width, stride), reads)

    return CellParts(
        reduction,
        preprocess=(
            Part(FactorizedReduce if after_reduction else ReLUConvNorm, (before_last[0], width), before_last),
            Part(ReLUConvNorm, (last[0], width), last),
        ),
        operations=tuple(tuple(operation(name, number) for name, number in edges) for edges in nodes),
        inputs=tuple(tuple(number for _name, number in edges) for edges in nodes),
        output=(width * len(nodes), node[1], node[2]),
    )


def _operation(kind: type[Operation], channels: int, stride: int) -> nn.Module:
    return kind().build(channels, stride, affine=True)


class Cell(nn.Module):
    """A cell: two earlier outputs in, the concatenation of its nodes out.

    Attributes:
        edges: per node, its operations in the genotype's order.
    """

    def __init__(self, parts: CellParts) -> None:
        super().__init__()
        self.inputs = parts.inputs
        self.preprocess0, self.preprocess1 = (part.build() for part in parts.preprocess)
        self.edges = nn.ModuleList(nn.ModuleList(part.build() for part in node) for node in parts.operations)

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

    Attributes:
        drop_path: the probability that training raises `set_drop_path` to over its course.
        feature_points: the last cell of each resolution.
    """

    def __init__(self, parts: NetworkParts, *, auxiliary: bool, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self._drop_path_now = 0.0
        self.stem = parts.stem.build()
        self.cells = nn.ModuleList(Cell(cell) for cell in parts.cells)
        self.classifier = cast(nn.Linear, parts.classifier.build())
        before_reduction = (index for index, after in enumerate(parts.cells[1:]) if after.reduction)
        self.feature_points = tuple(f"cells.{index}" for index in (*before_reduction, len(parts.cells) - 1))
        self.auxiliary: AuxiliaryHead | None = None
        self._auxiliary_after = 2 * len(parts.cells) // 3
        if auxiliary:
            channels, height, width = parts.cells[self._auxiliary_after].output
            self.auxiliary = AuxiliaryHead(channels, self.classifier.out_features, (height, width))

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
