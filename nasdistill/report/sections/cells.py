"""Searched cells, drawn."""

from __future__ import annotations

from pydantic import Field, model_validator

from nasdistill.models.genotypes import Cell, CellGraph, one_cell, pair_of_cells
from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload, by_seed
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.report.sections.decisions import DecisionsPayload
from nasdistill.search.drawing import draw_graph


class GenotypePayload(Payload):
    """`genotype.json`: a searched pair of cells, per inner node its edges (operation, input state), or one cell."""

    file = "genotype.json"

    normal: Cell | None = Field(None, description="The cell that keeps the resolution.")
    reduce: Cell | None = Field(None, description="The cell that halves the resolution.")
    cell: str | None = Field(None, description="In place of both: the one cell, as NAS-Bench-201 writes it.")

    @model_validator(mode="after")
    def _is_one_cell_or_two(self) -> GenotypePayload:
        if self.cell is None and (self.normal is None or self.reduce is None):
            raise ValueError("there must be `normal` and `reduce`, or `cell`")
        return self

    def graphs(self) -> tuple[CellGraph, ...]:
        return pair_of_cells(self.normal or (), self.reduce or ()) if self.cell is None else one_cell(self.cell)


@SECTIONS.register("cells")
class Cells(Section):
    """The cells that a search found."""

    title = "Searched cells"
    lead = (
        "Boxes are operations, circles the sums of what they give; the output joins the circles with dashed lines. "
        "A dashed box is a near tie: chance kept that operation rather than the next."
    )
    payload = GenotypePayload
    place = 50

    def of_seed(self, heading: str, payload: GenotypePayload, row: Row) -> list[Group]:
        decisions = by_seed(DecisionsPayload, [row]).get(row.seed)
        pictures = (draw_graph(cell, decisions.near_ties(cell) if decisions else ()) for cell in payload.graphs())
        note = "" if "truth" in row.metrics else "No table of true accuracies exists for cells of this space."
        return [Group(heading, tuple(pictures), note=note, wide=True)]
