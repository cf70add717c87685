"""The network that a genotype describes, with a width for every cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from nasdistill.component import Component
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.models.genotypes import NAMED, Genotype, named
from nasdistill.models.limits import MOST_CELLS
from nasdistill.models.operations import OPERATIONS
from nasdistill.models.published import in_our_form, is_printed, refuse_file
from nasdistill.models.scalable import Part, Scalable, Unit

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.models.cells import NetworkParts

_SHORTHAND = re.compile(r"darts-v([12])(?:-([0-9]{1,18})-([0-9]{1,18}))?", re.IGNORECASE | re.ASCII)


def _named_or_given(value: Any) -> Any:
    if isinstance(value, str) and not is_printed(value):
        if value not in NAMED:
            refuse_file(value)
        return named(value)
    return in_our_form(value)


@MODELS.register("darts")
class Darts(Scalable):
    """A network of searched cells. Shorthands: `darts-v2` (36 channels, 20 cells), `darts-v2-16-10`."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1 and appendix A"

    genotype: Annotated[Genotype, BeforeValidator(_named_or_given)] = Field(
        description=f"the cells, as a mapping or as papers print them, or a name ({', '.join(NAMED)})"
    )
    channels: int = Field(36, gt=0, description="channels of the first cell; they double at each reduction")
    cells: int = Field(
        20, gt=0, le=MOST_CELLS, description="number of cells; the cells at 1/3 and 2/3 of the depth reduce"
    )
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
        return tuple(Unit(f"cells.{cell}", width) for cell, width in enumerate(self.cell_widths()))

    def with_widths(self, widths: Mapping[str, int]) -> Darts:
        return self.with_options(widths=tuple(widths.get(unit.name, unit.width) for unit in self.units()))

    def base_width(self) -> int:
        return self.channels

    def scaled(self, factor: float) -> Darts:
        """Scales the stem as well; widths that double at each reduction stay implicit."""
        channels = max(1, round(factor * self.channels))
        doubling = self.with_options(channels=channels, widths=None)
        wider = super().scaled(factor)
        return doubling if doubling.cell_widths() == wider.widths else wider.with_options(channels=channels)

    def blocks(self) -> int:
        return self.cells

    def with_blocks(self, blocks: int) -> Darts:
        """Explicit widths are stretched over the cells of their resolution."""
        deeper = self.with_options(cells=blocks, widths=None)
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

    def parts(self, shape: Shape, classes: int) -> Iterable[Part]:
        """Those of the stem, of each cell, and the classifier; a family that builds on this one has others."""
        return self._parts(shape, classes) if type(self).build is Darts.build else super().parts(shape, classes)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from nasdistill.models.cells import DartsNetwork

        return DartsNetwork(self._parts(shape, classes), auxiliary=self.auxiliary, drop_path=self.drop_path)

    def _parts(self, shape: Shape, classes: int) -> NetworkParts:
        from nasdistill.models.cells import network_parts

        stem = self.stem_multiplier * self.channels
        return network_parts(self.genotype, self.cell_widths(), self.reductions(), shape, classes, stem)
