"""Spaces of cells as NAS-Bench-201 has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.component import Component
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.cell_strings import canonical, format_cell
from nasdistill.models.genotypes import Cell, one_cell
from nasdistill.models.limits import MOST_CELLS
from nasdistill.registry import registry
from nasdistill.search.spaces.cells import NONE, CellSpace


class SummedSpace(CellSpace):
    """Base of all spaces of one cell, which reads the cell before, keeps every edge, and whose output is its last node.

    A node is the sum of its edges; `none` is an outcome like any other. Residual blocks halve the resolution.
    """

    kinds: ClassVar[tuple[str, ...]] = ("normal",)
    inputs: ClassVar[int] = 1
    keeps_none: ClassVar[bool] = True
    normalises_pools: ClassVar[bool] = False

    nodes: int = Field(3, gt=0, le=100, description="nodes of a cell, its input not counted")
    stages: int = Field(3, gt=0, le=8, description="resolutions, each half of the one before")
    search_cells: int = Field(5, gt=0, le=MOST_CELLS, description="cells of each stage while searching")
    channels: int = Field(16, gt=1, description="channels of the first stage of the found network")
    cells: int = Field(5, gt=0, le=MOST_CELLS, description="cells of each stage of the found network")
    widths: tuple[Annotated[int, Field(gt=1)], ...] | None = Field(
        None, description="channels of each stage of the found network, instead of doubling"
    )

    @model_validator(mode="after")
    def _widths_fit(self) -> SummedSpace:
        if self.widths is not None and len(self.widths) != self.stages:
            raise SpecError(f"{len(self.widths)} widths for {self.stages} stages", ("widths",))
        return self

    def looked_up(self) -> Iterator[type[Component]]:
        yield registry("models").get("nas-bench-201")
        yield from super().looked_up()

    def kept(self, node: int) -> int:
        return node + 1

    def choices(self, shape: Shape, classes: int) -> dict[str, tuple[Any, ...]]:
        """By node and the state that it reads the operation between them."""
        return {
            f"{node}/{state}": names for (state, node), names in zip(self.edges(), self.offered("normal"), strict=True)
        }

    def cells_of(self, chosen: Mapping[str, Any]) -> dict[str, Cell]:
        cell = tuple(
            tuple((chosen[f"{node}/{state}"], state) for state in range(node + 1)) for node in range(self.nodes)
        )
        return {"normal": cell}

    def canonical(self, chosen: Mapping[str, Any]) -> str:
        return canonical([[operation for operation, _state in edges] for edges in self.cells_of(chosen)["normal"]])

    def proxy(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The same cell in the size of the search."""
        return self.model(chosen) | {"channels": self.search_channels, "cells": self.search_cells, "widths": None}

    def model_of(self, cells: Mapping[str, Cell]) -> dict[str, Any]:
        """Edges that a selection leaves out are `none`."""
        by_state = [{state: operation for operation, state in edges} for edges in cells["normal"]]
        rows = [[edges.get(state, NONE) for state in range(node + 1)] for node, edges in enumerate(by_state)]
        return {
            "name": "nas-bench-201",
            "cell": format_cell(rows),
            "channels": self.channels,
            "cells": self.cells,
            "stages": self.stages,
            "widths": self.widths,
        }

    def cells_in(self, model: Mapping[str, Any]) -> dict[str, Cell]:
        return {graph.kind: graph.edges for graph in one_cell(model["cell"])}
