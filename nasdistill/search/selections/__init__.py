"""Selections: which edges and operations of a relaxed cell are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from nasdistill.models.genotypes import Cell
    from nasdistill.search.gradient import Learner
    from nasdistill.search.mixture import Mixture
    from nasdistill.search.spaces.cells import CellSpace


class Selection(Component):
    """Base of all selections."""

    def cell(self, space: CellSpace, mixture: Mixture) -> Cell:
        """The cell that remains of a relaxed one: for each node its (operation, state) pairs."""
        raise NotImplementedError(type(self).__name__)

    def finish(self, learner: Learner) -> dict[str, Cell] | None:
        """The cells by kind in the end, where the trained supernet decides; None where the last ones stand."""
        return None


SELECTIONS: Registry[Selection] = Registry("selections", Selection, "nasdistill.search.selections")
