"""Genotypes: the cells that a search found, as plain data, and the two that the DARTS paper published."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasdistill.errors import SpecError, unknown
from nasdistill.models.cell_strings import NONE, parse_cell

Edge = tuple[str, int]
"""Name of an operation, and the state that it reads: the cell's inputs come first, two in DARTS, and then its nodes."""

Cell = tuple[tuple[Edge, ...], ...]
"""The incoming edges of each node, in order."""


class CellGraph(NamedTuple):
    """A kind of cell, as it is drawn.

    Attributes:
        inputs: how many states the cell reads; node i is state i + inputs.
        outputs: the nodes that its output is made of.
    """

    kind: str
    title: str
    edges: Cell
    inputs: int
    outputs: range


def pair_of_cells(normal: Cell, reduce: Cell) -> tuple[CellGraph, ...]:
    """Two cells that read two earlier ones, and whose output is the concatenation of all nodes."""
    titled = (("normal", "normal cell", normal), ("reduce", "reduction cell", reduce))
    return tuple(CellGraph(kind, title, cell, 2, range(len(cell))) for kind, title, cell in titled)


def one_cell(cell: str) -> tuple[CellGraph, ...]:
    """A cell in the form of NAS-Bench-201: it reads the one before, and its output is the last node."""
    rows = parse_cell(cell)
    edges = tuple(tuple((name, state) for state, name in enumerate(row) if name != NONE) for row in rows)
    return (CellGraph("normal", "cell", edges, 1, range(len(rows) - 1, len(rows))),)


class Genotype(BaseModel):
    """A normal and a reduction cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    normal: Cell = Field(description="the cell that keeps the resolution")
    reduce: Cell = Field(description="the cell that halves the resolution")

    @model_validator(mode="after")
    def _edges_point_back(self) -> Genotype:
        for name, cell in (("normal", self.normal), ("reduce", self.reduce)):
            if not cell:
                raise SpecError("a cell needs at least one node", (name,))
            for node, edges in enumerate(cell):
                for operation, state in edges:
                    if not 0 <= state < node + 2:
                        problem = f"node {node} reads state {state} by {operation}; it may read 0 to {node + 1}"
                        raise SpecError(problem, (name, node))
        return self

    def graphs(self) -> tuple[CellGraph, ...]:
        return pair_of_cells(self.normal, self.reduce)


class CellString(BaseModel):
    """The one cell of a network of NAS-Bench-201."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str = Field(description="in the benchmark's form, |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")

    def graphs(self) -> tuple[CellGraph, ...]:
        return one_cell(self.cell)


# Liu et al., DARTS: Differentiable Architecture Search (2019), figures 4 and 5 and the released genotypes.
DARTS_V1 = Genotype(
    normal=(
        (("sep_conv_3x3", 1), ("sep_conv_3x3", 0)),
        (("skip_connect", 0), ("sep_conv_3x3", 1)),
        (("skip_connect", 0), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 0), ("skip_connect", 2)),
    ),
    reduce=(
        (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
        (("skip_connect", 2), ("max_pool_3x3", 0)),
        (("max_pool_3x3", 0), ("skip_connect", 2)),
        (("skip_connect", 2), ("avg_pool_3x3", 0)),
    ),
)
DARTS_V2 = Genotype(
    normal=(
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 1), ("skip_connect", 0)),
        (("skip_connect", 0), ("dil_conv_3x3", 2)),
    ),
    reduce=(
        (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
        (("skip_connect", 2), ("max_pool_3x3", 1)),
        (("max_pool_3x3", 0), ("skip_connect", 2)),
        (("skip_connect", 2), ("max_pool_3x3", 1)),
    ),
)
NAMED = {"DARTS_V1": DARTS_V1, "DARTS_V2": DARTS_V2}


def named(name: str) -> Genotype:
    """The published genotype called `name`.

    Raises:
        SpecError: there is none.
    """
    if name not in NAMED:
        raise SpecError(unknown("genotype", name, NAMED))
    return NAMED[name]
