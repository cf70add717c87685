"""Search spaces: cells of nodes whose edges choose among operations. Each YAML file of `search_spaces/` is one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nasdistill.registry import Component, Registry


class SearchSpace(Component):
    """Base of all search spaces: a chain of cells, each a directed acyclic graph of nodes."""

    operations: tuple[str, ...] = Field(min_length=1, description="names of the operations on every edge, in order")
    nodes: int = Field(4, gt=0, description="inner nodes of a cell")
    edges_per_node: int = Field(2, gt=0, description="incoming edges that each node keeps in the found network")
    search_channels: int = Field(16, gt=0, description="channels of the first cells while searching")
    search_cells: int = Field(8, gt=0, description="cells while searching")
    channels: int = Field(36, gt=0, description="channels of the first cells of the found network")
    cells: int = Field(20, gt=0, description="cells of the found network")
    widths: tuple[int, ...] | None = Field(
        None, description="channels of each cell of the found network, instead of doubling at each reduction"
    )
    stem_multiplier: Annotated[int, Field(gt=0)] = Field(
        3, description="channels of the stem per channel of the first cell"
    )


SPACES: Registry[SearchSpace] = Registry("spaces", SearchSpace, "nasdistill.search.spaces")
