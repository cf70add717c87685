"""Spaces of cells: nodes whose edges choose among operations. Each YAML file of `search_spaces/` is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, field_validator, model_validator

from nasdistill.component import Component
from nasdistill.errors import SpecError, UserError, found_at, unknown
from nasdistill.models.cell_strings import NONE as NONE
from nasdistill.models.cell_strings import SKIP as SKIP
from nasdistill.models.genotypes import Cell
from nasdistill.models.limits import MOST_CELLS
from nasdistill.registry import registry
from nasdistill.search.spaces import SearchSpace

EdgeOperations = dict[str, tuple[tuple[str, ...], ...]]
"""By kind of cell the operations of each edge, in the order of `CellSpace.edges`."""


class CellSpace(SearchSpace):
    """Base of all spaces that are a chain of cells, each a directed acyclic graph of nodes.

    The first states of a cell are its inputs, then come its nodes. In the space each node reads all earlier states, and
    each such edge is a choice among the operations. A family says what a cell reads and gives, and how many of its
    edges the found network keeps.

    Attributes:
        kinds: of cells, which have operations of their own.
        inputs: how many states a cell reads; node i is state i + inputs.
        keeps_none: whether `none` may be found; else it only lets a search weaken an edge.
        normalises_pools: whether a pool is followed by a batch norm while searching.
        fewest_cells: that a supernet needs.
    """

    # The defaults of a space come from a file, so they are checked like what a recipe gives.
    model_config = ConfigDict(validate_default=True)

    kinds: ClassVar[tuple[str, ...]]
    inputs: ClassVar[int]
    keeps_none: ClassVar[bool]
    normalises_pools: ClassVar[bool]
    fewest_cells: ClassVar[int] = 1

    operations: tuple[str, ...] = Field(min_length=1, description="names of the operations on every edge, in order")
    edge_operations: EdgeOperations | None = Field(
        None,
        description="by kind of cell the operations of each edge, where edges offer only some of them: of node 0 the "
        "edges from each state in order, then those of node 1, and so on",
    )
    nodes: int = Field(4, gt=0, le=100, description="nodes of a cell, its inputs not counted")
    search_channels: int = Field(16, gt=1, description="channels of the first cells while searching")
    search_cells: int = Field(gt=0, le=MOST_CELLS, description="cells while searching")
    cells: int = Field(gt=0, le=MOST_CELLS, description="cells of the found network")

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if not hasattr(cls, "kinds"):
            raise UserError(f"{cls.__name__} must be of a family of spaces of cells: a `DartsSpace` or a `SummedSpace`")

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
    def _edges_offer_operations(self) -> CellSpace:
        if self.edge_operations is None:
            return self
        if self.edge_operations.keys() != set(self.kinds):
            kinds = " and ".join(self.kinds)
            raise SpecError(f"the kinds of cells are {kinds}, got {[*self.edge_operations]}", ("edge_operations",))
        for kind, rows in self.edge_operations.items():
            with found_at("edge_operations", kind):
                if len(rows) != len(self.edges()):
                    raise SpecError(f"{len(rows)} edges, where a cell has {len(self.edges())}")
                for index, names in enumerate(rows):
                    self._check_edge(names, len(rows[0]), index)
        return self

    def _check_edge(self, names: tuple[str, ...], count: int, index: int) -> None:
        for name in names:
            if name not in self.operations:
                raise SpecError(unknown("operation", name, self.operations), (index,))
        if len(set(names)) != len(names) or len(names) != count:
            raise SpecError(f"every edge offers as many different operations as the first one, {count}", (index,))
        if not set(names) & set(self.outcomes()):
            raise SpecError(f"an edge needs an operation other than {NONE!r}", (index,))

    def looked_up(self) -> Iterator[type[Component]]:
        yield from map(registry("operations").get, self.operations)

    def outcomes(self) -> tuple[str, ...]:
        """The operations that a found network may have."""
        return tuple(name for name in self.operations if self.keeps_none or name != NONE)

    def offered(self, kind: str) -> tuple[tuple[str, ...], ...]:
        """The operations of each edge, in the order of `edges`: the columns of a strategy's weights."""
        if self.edge_operations is None:
            return (self.operations,) * len(self.edges())
        return self.edge_operations[kind]

    def can_become(self, kind: str) -> list[tuple[str, ...]]:
        """Of each edge the operations that a found network may have there."""
        outcomes = self.outcomes()
        return [tuple(name for name in names if name in outcomes) for names in self.offered(kind)]

    def edges(self) -> list[tuple[int, int]]:
        """The (state, node) of each edge of a cell, in the order of the rows of a strategy's weights."""
        return [(state, node) for node in range(self.nodes) for state in range(node + self.inputs)]

    def cells_of(self, chosen: Mapping[str, Any]) -> dict[str, Cell]:
        """The cells, by kind, that one alternative of each label describes."""
        raise NotImplementedError(type(self).__name__)

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return self.model_of(self.cells_of(chosen))

    def kept(self, node: int) -> int:
        """How many of its edges a node keeps in the found network."""
        raise NotImplementedError(type(self).__name__)

    def model_of(self, cells: Mapping[str, Cell]) -> dict[str, Any]:
        """The network of these cells, by kind, in the size that the space gives to what is found."""
        raise NotImplementedError(type(self).__name__)

    def cells_in(self, model: Mapping[str, Any]) -> dict[str, Cell]:
        """The cells that `model_of` made a network of, `none` left out."""
        raise NotImplementedError(type(self).__name__)
