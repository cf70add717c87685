"""Spaces of cells as DARTS has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.component import Component
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.genotypes import Cell, Genotype
from nasdistill.models.limits import MOST_CELLS
from nasdistill.registry import registry
from nasdistill.search.spaces.cells import CellSpace

CELLS = ("normal", "reduce")


class DartsSpace(CellSpace):
    """Base of all spaces of normal and reduction cells, which read the two cells before and concatenate their nodes."""

    kinds: ClassVar[tuple[str, ...]] = CELLS
    inputs: ClassVar[int] = 2
    keeps_none: ClassVar[bool] = False
    normalises_pools: ClassVar[bool] = True
    fewest_cells: ClassVar[int] = 3

    edges_per_node: int = Field(2, gt=0, description="incoming edges that each node keeps in the found network")
    stem_multiplier: int = Field(3, gt=0, description="channels of the stem per channel of the first cell")
    search_cells: int = Field(
        8,
        ge=fewest_cells,
        le=MOST_CELLS,
        description="cells while searching; of fewer than 3 none would be a normal cell",
    )
    channels: int = Field(36, gt=1, description="channels of the first cells of the found network")
    cells: int = Field(20, gt=0, le=MOST_CELLS, description="cells of the found network")
    widths: tuple[Annotated[int, Field(gt=1)], ...] | None = Field(
        None, description="channels of each cell of the found network, instead of doubling at each reduction"
    )
    auxiliary: bool = Field(False, description="whether the found network has a second classifier while it trains")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="drop-path probability of the found network at the end of its training"
    )

    @model_validator(mode="after")
    def _widths_fit(self) -> DartsSpace:
        if self.widths is not None and len(self.widths) != self.cells:
            raise SpecError(f"{len(self.widths)} widths for {self.cells} cells", ("widths",))
        return self

    def looked_up(self) -> Iterator[type[Component]]:
        yield registry("models").get("darts")
        yield from super().looked_up()

    def kept(self, node: int) -> int:
        return min(self.edges_per_node, node + 2)

    def choices(self, shape: Shape, classes: int) -> dict[str, tuple[Any, ...]]:
        """By cell and node the states that it reads, and by cell, node and kept edge the operation, never `none`.

        Where edges offer different operations, by cell and node the (operation, state) pairs, as they depend on each
        other.
        """
        if self.edge_operations is not None:
            return {f"{cell}/{node}": self._pairs(cell, node) for cell in CELLS for node in range(self.nodes)}
        states = {
            f"{cell}/{node}/states": tuple(map(list, combinations(range(node + 2), self.kept(node))))
            for cell in CELLS
            for node in range(self.nodes)
        }
        picks = {
            f"{cell}/{node}/{edge}": self.outcomes()
            for cell in CELLS
            for node in range(self.nodes)
            for edge in range(self.kept(node))
        }
        return {**states, **picks}

    def _pairs(self, cell: str, node: int) -> tuple[list[list[Any]], ...]:
        """All that a node may be: of each edge that it keeps [operation, state]."""
        names = dict(zip(self.edges(), self.can_become(cell), strict=True))
        by_state = [[[name, state] for name in names[state, node]] for state in range(node + self.inputs)]
        return tuple(list(pairs) for edges in combinations(by_state, self.kept(node)) for pairs in product(*edges))

    def cells_of(self, chosen: Mapping[str, Any]) -> dict[str, Cell]:
        def cell(kind: str) -> Cell:
            if self.edge_operations is not None:
                return tuple(
                    tuple((name, state) for name, state in chosen[f"{kind}/{node}"]) for node in range(self.nodes)
                )
            return tuple(
                tuple(
                    (chosen[f"{kind}/{node}/{edge}"], state)
                    for edge, state in enumerate(chosen[f"{kind}/{node}/states"])
                )
                for node in range(self.nodes)
            )

        return {kind: cell(kind) for kind in CELLS}

    def proxy(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The same cells in the size of the search, without auxiliary head and drop path."""
        size = {"channels": self.search_channels, "cells": self.search_cells, "widths": None}
        return self.model(chosen) | size | {"auxiliary": False, "drop_path": 0.0}

    def model_of(self, cells: Mapping[str, Cell]) -> dict[str, Any]:
        return {
            "name": "darts",
            "genotype": Genotype(**cells).model_dump(mode="json"),
            "channels": self.channels,
            "cells": self.cells,
            "widths": self.widths,
            "stem_multiplier": self.stem_multiplier,
            "auxiliary": self.auxiliary,
            "drop_path": self.drop_path,
        }

    def cells_in(self, model: Mapping[str, Any]) -> dict[str, Cell]:
        genotype = Genotype.model_validate(model["genotype"])
        return {"normal": genotype.normal, "reduce": genotype.reduce}
