"""The network that a genotype describes, with a width for every cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import nn

from nasdistill.component import Component
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.models.genotypes import NAMED, Edge, Genotype, named
from nasdistill.models.genotypes import Cell as CellEdges
from nasdistill.models.growable import Growable, Slot, Unit, slots_by_size
from nasdistill.models.operations import OPERATIONS, Operation
from nasdistill.models.operations.convolutions import ReLUConvNorm
from nasdistill.models.operations.skip import FactorizedReduce

_SHORTHAND = re.compile(r"darts-v([12])(?:-(\d+)-(\d+))?", re.IGNORECASE)


def _named_or_given(value: Any) -> Any:
    return named(value) if isinstance(value, str) else value


@MODELS.register("darts")
class Darts(Growable):
    """A network of searched cells. Shorthands: `darts-v2` (36 channels, 20 cells), `darts-v2-16-10`."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1 and appendix A"

    genotype: Annotated[Genotype, BeforeValidator(_named_or_given)] = Field(
        description=f"the cells, or the name of a published genotype ({', '.join(NAMED)})"
    )
    channels: int = Field(36, gt=0, description="channels of the first cell; they double at each reduction")
    cells: int = Field(20, gt=0, description="number of cells; the cells at 1/3 and 2/3 of the depth reduce")
    widths: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None, description="channels of each cell, instead of doubling at each reduction"
    )
    stem_multiplier: int = Field(3, gt=0, description="channels of the stem, as a multiple of `channels`")
    auxiliary: bool = Field(False, description="a second classifier at 2/3 of the depth, used while training only")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="probability, at the end of training, that a sample loses an edge's output"
    )

    @model_validator(mode="after")
    def _operations_exist_and_widths_fit(self) -> Darts:
        for name, cell in (("normal", self.genotype.normal), ("reduce", self.genotype.reduce)):
            for node, edges in enumerate(cell):
                for operation, _state in edges:
                    try:
                        OPERATIONS.get(operation)
                    except SpecError as error:
                        raise SpecError(error.problem, ("genotype", name, node)) from None
        if self.widths is not None and len(self.widths) != self.cells:
            raise SpecError(f"{len(self.widths)} widths for {self.cells} cells", ("widths",))
        return self

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        match = _SHORTHAND.fullmatch(text)
        if match is None:
            return None
        version, channels, cells = match.groups()
        size = {"channels": int(channels), "cells": int(cells)} if channels else {}
        return {"genotype": f"DARTS_V{version}", **size}

    def looked_up(self) -> Iterator[type[Component]]:
        cells = (*self.genotype.normal, *self.genotype.reduce)
        return (OPERATIONS.get(operation) for node in cells for operation, _state in node)

    def reductions(self) -> frozenset[int]:
        """The cells that halve the resolution."""
        return frozenset({self.cells // 3, 2 * self.cells // 3})

    def cell_widths(self) -> tuple[int, ...]:
        """Channels of each node, per cell; a cell's output has as many times that as it has nodes."""
        if self.widths is not None:
            return self.widths
        reductions = self.reductions()
        return tuple(self.channels * 2 ** sum(r <= cell for r in reductions) for cell in range(self.cells))

    def cell_genotype(self) -> Genotype:
        return self.genotype

    def units(self) -> tuple[Unit, ...]:
        """A unit for each cell: sums and skip connections tie its nodes, and a factorised reduce makes two halves."""
        return tuple(Unit(f"cells.{cell}", width, parts=2) for cell, width in enumerate(self.cell_widths()))

    def with_widths(self, widths: Mapping[str, int]) -> Darts:
        return self.with_options(widths=tuple(widths.get(unit.name, unit.width) for unit in self.units()))

    def slots(self, unit: Unit, shape: Shape, classes: int) -> tuple[Slot, ...]:
        """The output of a cell concatenates its nodes."""
        reduction = int(unit.name.removeprefix("cells.")) in self.reductions()
        nodes = len(self.genotype.reduce if reduction else self.genotype.normal)
        return tuple(slots_by_size(self, unit, shape, classes, nodes))

    def base_width(self) -> int:
        return self.channels

    def scaled(self, factor: float) -> Darts:
        """Scales the stem as well; widths that double at each reduction stay implicit."""
        channels = max(1, round(factor * self.channels))
        doubling = self.with_options(channels=channels, widths=None)
        wider = super().scaled(factor)
        return doubling if doubling.cell_widths() == wider.widths else wider.with_options(channels=channels)

    def depth(self) -> int:
        return self.cells

    def deepened(self, depth: int) -> Darts:
        """Explicit widths are stretched over the cells of their resolution."""
        deeper = self.with_options(cells=depth, widths=None)
        if self.widths is None:
            return deeper
        before, after = self._resolutions(), deeper._resolutions()
        widths: list[int] = []
        # From the last resolution backwards, as a network of fewer than three cells lacks the first ones.
        for number in range(1, len(after) + 1):
            old = before[-min(number, len(before))]
            new = after[-number]
            widths[:0] = [self.widths[old[index * len(old) // len(new)]] for index in range(len(new))]
        return deeper.with_options(widths=tuple(widths))

    def _resolutions(self) -> list[range]:
        """The cells of each resolution, in order."""
        starts = sorted({0, *self.reductions()})
        return [range(start, stop) for start, stop in zip(starts, [*starts[1:], self.cells], strict=True)]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return DartsNetwork(self, shape, classes)


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
        return torch.cat(states[2:], dim=1)


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

    def __init__(self, model: Darts, shape: Shape, classes: int) -> None:
        super().__init__()
        self.drop_path = model.drop_path
        self._drop_path_now = 0.0
        stem = model.stem_multiplier * model.channels
        self.stem = nn.Sequential(nn.Conv2d(shape[0], stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        reductions = model.reductions()
        channels = (stem, stem)
        cells: list[Cell] = []
        for index, width in enumerate(model.cell_widths()):
            reduction = index in reductions
            genotype = model.genotype.reduce if reduction else model.genotype.normal
            cell = Cell(genotype, channels, width, reduction, index - 1 in reductions)
            channels = (channels[1], cell.out_channels)
            cells.append(cell)
        self.cells = nn.ModuleList(cells)
        self.classifier = nn.Linear(channels[1], classes)
        self.feature_points = tuple(
            f"cells.{index}" for index in range(model.cells) if index + 1 in reductions or index + 1 == model.cells
        )
        self.auxiliary: AuxiliaryHead | None = None
        self._auxiliary_after = 2 * model.cells // 3
        if model.auxiliary:
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
