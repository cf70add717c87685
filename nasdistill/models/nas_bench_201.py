"""The network of NAS-Bench-201 that a cell describes, with a width for every stage."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from nasdistill.component import Component, Facts
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.models.cell_strings import Rows, format_cell, parse_cell
from nasdistill.models.genotypes import CellString
from nasdistill.models.limits import MOST_CELLS, require_images
from nasdistill.models.operations import OPERATIONS
from nasdistill.models.scalable import Part, Scalable, Unit

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.models.summed_cells import NetworkParts


def _as_string(value: Any) -> str:
    """A cell, given as a string or as rows, in the benchmark's form."""
    if not isinstance(value, str):
        if not (_is_list(value) and all(_is_list(row) and all(isinstance(name, str) for name in row) for row in value)):
            raise SpecError(f"a cell is a string or a list of rows of operations, got {value!r}")
        value = format_cell(value)
    rows = parse_cell(value)
    for name in dict.fromkeys(itertools.chain(*rows)):
        OPERATIONS.get(name)
    return format_cell(rows)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


@MODELS.register("nas-bench-201")
class NasBench201(Scalable):
    """Stages of one searched cell, whose nodes are sums. A cell in the form of the benchmark is a shorthand."""

    source: ClassVar[str] = "Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326), section 2.1"

    cell: Annotated[str, BeforeValidator(_as_string)] = Field(
        description="the cell as the benchmark writes it, |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, or the operations of "
        "each node in the order of the states that they read; of any number of nodes and any operations"
    )
    channels: int = Field(16, gt=0, description="channels of the first stage; they double with each further one")
    cells: int = Field(5, gt=0, le=MOST_CELLS, description="cells of each stage")
    stages: int = Field(3, gt=0, le=8, description="resolutions, each half of the one before")
    widths: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None, description="channels of each stage, instead of doubling"
    )

    @model_validator(mode="after")
    def _widths_fit(self) -> NasBench201:
        if self.widths is not None and len(self.widths) != self.stages:
            raise SpecError(f"{len(self.widths)} widths for {self.stages} stages", ("widths",))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if self.widths is not None:
            yield from ((name, "`widths` says the channels of all stages") for name in self.differs("channels"))

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        return {"cell": text} if text.startswith("|") else None

    def looked_up(self) -> Iterator[type[Component]]:
        return (OPERATIONS.get(name) for row in self.rows() for name in row)

    def rows(self) -> Rows:
        """Of each node the operations by the state that they read."""
        return parse_cell(self.cell)

    def stage_widths(self) -> tuple[int, ...]:
        return self.widths or tuple(self.channels * 2**stage for stage in range(self.stages))

    def cell_genotype(self) -> CellString:
        return CellString(cell=self.cell)

    def units(self) -> tuple[Unit, ...]:
        """A unit for each stage: sums and skip connections tie all its nodes."""
        return tuple(Unit(f"stages.{stage}", width) for stage, width in enumerate(self.stage_widths()))

    def with_widths(self, widths: Mapping[str, int]) -> NasBench201:
        """With implicit widths where they double, as in the benchmark."""
        found = tuple(widths.get(unit.name, unit.width) for unit in self.units())
        doubling = self.with_options(channels=found[0], widths=None)
        return doubling if doubling.stage_widths() == found else self.with_options(widths=found)

    def blocks(self) -> int:
        return self.cells

    def with_blocks(self, blocks: int) -> NasBench201:
        return self.with_options(cells=blocks)

    def parts(self, shape: Shape, classes: int) -> Iterable[Part]:
        """Those of the stem, the cells, the blocks between stages, and the end."""
        return self._parts(shape, classes) if type(self).build is NasBench201.build else super().parts(shape, classes)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from nasdistill.models.summed_cells import SummedNetwork

        require_images("network of NAS-Bench-201", shape, smallest=2 ** (self.stages - 1))
        return SummedNetwork(self._parts(shape, classes))

    def _parts(self, shape: Shape, classes: int) -> NetworkParts:
        from nasdistill.models.summed_cells import network_parts

        return network_parts(self.rows(), self.stage_widths(), self.cells, shape, classes)
