"""Spaces of cells: nodes whose edges choose among operations. Each YAML file of `search_spaces/` is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from nasdistill.component import Component
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.genotypes import Genotype
from nasdistill.models.limits import MOST_CELLS
from nasdistill.registry import registry
from nasdistill.search.spaces import SearchSpace

NONE = "none"
"""The operation that a search may prefer but that no found network keeps."""

SKIP = "skip_connect"
"""The operation that takes over when a search collapses."""

CELLS = ("normal", "reduce")


class CellSpace(SearchSpace):
    """Base of all spaces that are a chain of cells, each a directed acyclic graph of nodes.

    States 0 and 1 of a cell are the outputs of the two cells before it, state i + 2 is node i. In the space each node
    reads all earlier states, and each such edge is a choice among the operations.
    """

    # The defaults of a space come from a file, so they are checked like what a recipe gives.
    model_config = ConfigDict(validate_default=True)

    operations: tuple[str, ...] = Field(min_length=1, description="names of the operations on every edge, in order")
    nodes: int = Field(4, gt=0, le=100, description="inner nodes of a cell")
    edges_per_node: int = Field(2, gt=0, description="incoming edges that each node keeps in the found network")
    stem_multiplier: int = Field(3, gt=0, description="channels of the stem per channel of the first cell")
    search_channels: int = Field(16, gt=1, description="channels of the first cells while searching")
    search_cells: int = Field(
        8, ge=3, le=MOST_CELLS, description="cells while searching; of fewer than 3 none would be a normal cell"
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

    @field_validator("operations")
    @classmethod
    def _operations_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for index, name in enumerate(names):
            try:
                registry("operations").get(name)
            except SpecError as error:
                raise SpecError(error.problem, (index,)) from None
            if name in names[:index]:
                raise SpecError(f"the operation {name!r} is listed twice", (index,))
        if set(names) == {NONE}:
            raise SpecError(f"a space needs an operation other than {NONE!r}")
        return names

    @model_validator(mode="after")
    def _widths_fit(self) -> CellSpace:
        if self.widths is not None and len(self.widths) != self.cells:
            raise SpecError(f"{len(self.widths)} widths for {self.cells} cells", ("widths",))
        return self

    def looked_up(self) -> Iterator[type[Component]]:
        yield registry("models").get("darts")
        yield from map(registry("operations").get, self.operations)

    def edges(self) -> list[tuple[int, int]]:
        """The (state, node) of each edge of a cell, in the order of the rows of a strategy's weights."""
        return [(state, node) for node in range(self.nodes) for state in range(node + 2)]

    def choices(self, shape: Shape, classes: int) -> dict[str, tuple[Any, ...]]:
        """By cell and node the states that it reads, and by cell, node and kept edge the operation, never `none`."""
        states = {
            f"{cell}/{node}/states": tuple(map(list, combinations(range(node + 2), edges)))
            for cell in CELLS
            for node, edges in self._kept()
        }
        operations = tuple(name for name in self.operations if name != NONE)
        picks = {
            f"{cell}/{node}/{edge}": operations
            for cell in CELLS
            for node, edges in self._kept()
            for edge in range(edges)
        }
        return {**states, **picks}

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        normal, reduce = (
            tuple(
                tuple(
                    (chosen[f"{cell}/{node}/{edge}"], state)
                    for edge, state in enumerate(chosen[f"{cell}/{node}/states"])
                )
                for node, _edges in self._kept()
            )
            for cell in CELLS
        )
        return self.model_of(Genotype(normal=normal, reduce=reduce))

    def proxy(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The same cells in the size of the search, without auxiliary head and drop path."""
        size = {"channels": self.search_channels, "cells": self.search_cells, "widths": None}
        return self.model(chosen) | size | {"auxiliary": False, "drop_path": 0.0}

    def model_of(self, genotype: Genotype) -> dict[str, Any]:
        """The network of these cells, in the size that the space gives to what is found."""
        return {
            "name": "darts",
            "genotype": genotype.model_dump(mode="json"),
            "channels": self.channels,
            "cells": self.cells,
            "widths": self.widths,
            "stem_multiplier": self.stem_multiplier,
            "auxiliary": self.auxiliary,
            "drop_path": self.drop_path,
        }

    def _kept(self) -> Iterator[tuple[int, int]]:
        """Each node and how many edges it keeps."""
        return ((node, min(self.edges_per_node, node + 2)) for node in range(self.nodes))
