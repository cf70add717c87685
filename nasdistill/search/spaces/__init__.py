"""Search spaces: cells of nodes whose edges choose among operations. Each YAML file of `search_spaces/` is one."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, field_validator, model_validator

from nasdistill.errors import SpecError
from nasdistill.registry import Component, Registry, registry

NONE = "none"
"""The operation that a search may prefer but that no found network keeps."""

SKIP = "skip_connect"
"""The operation that takes over when a search collapses."""


class SearchSpace(Component):
    """Base of all search spaces: a chain of cells, each a directed acyclic graph of nodes.

    States 0 and 1 of a cell are the outputs of the two cells before it, state i + 2 is node i. In the space each node
    reads all earlier states, and each such edge is a choice among the operations.
    """

    # The defaults of a space come from a file, so they are checked like what a recipe gives.
    model_config = ConfigDict(validate_default=True)

    operations: tuple[str, ...] = Field(min_length=1, description="names of the operations on every edge, in order")
    nodes: int = Field(4, gt=0, description="inner nodes of a cell")
    edges_per_node: int = Field(2, gt=0, description="incoming edges that each node keeps in the found network")
    stem_multiplier: int = Field(3, gt=0, description="channels of the stem per channel of the first cell")
    search_channels: int = Field(16, gt=1, description="channels of the first cells while searching")
    search_cells: int = Field(8, ge=3, description="cells while searching; of fewer than 3 none would be a normal cell")
    channels: int = Field(36, gt=1, description="channels of the first cells of the found network")
    cells: int = Field(20, gt=0, description="cells of the found network")
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
    def _widths_fit(self) -> SearchSpace:
        if self.widths is not None and len(self.widths) != self.cells:
            raise SpecError(f"{len(self.widths)} widths for {self.cells} cells", ("widths",))
        return self

    def edges(self) -> list[tuple[int, int]]:
        """The (state, node) of each edge of a cell, in the order of the rows of a strategy's weights."""
        return [(state, node) for node in range(self.nodes) for state in range(node + 2)]


SPACES: Registry[SearchSpace] = Registry("spaces", SearchSpace, "nasdistill.search.spaces")
