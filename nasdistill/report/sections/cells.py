"""Searched cells, drawn."""

from __future__ import annotations

from pydantic import Field

from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.search.drawing import draw_cell


class GenotypePayload(Payload):
    """`genotype.json`: a searched pair of cells, per inner node its edges (operation, input state)."""

    file = "genotype.json"

    normal: list[list[tuple[str, int]]] = Field(description="The cell that keeps the resolution.")
    reduce: list[list[tuple[str, int]]] = Field(description="The cell that halves the resolution.")


@SECTIONS.register("cells")
class Cells(Section):
    """The two cells that a search found."""

    title = "Searched cells"
    lead = "Boxes are operations, circles the sums of what they give; the output joins all circles (dashed)."
    payload = GenotypePayload
    place = 50

    def of_seed(self, heading: str, payload: GenotypePayload, row: Row) -> list[Group]:
        drawn = (draw_cell(payload.normal, "normal cell"), draw_cell(payload.reduce, "reduction cell"))
        return [Group(heading, drawn, wide=True)]
