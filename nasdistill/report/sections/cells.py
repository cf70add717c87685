"""Searched cells, drawn."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.search.drawing import draw_cell


class GenotypePayload(Payload):
    """`genotype.json`: a searched pair of cells, per inner node its edges (operation, input state)."""

    file = "genotype.json"

    normal: list[list[tuple[str, int]]] = Field(description="The cell that keeps the resolution.")
    reduce: list[list[tuple[str, int]]] = Field(description="The cell that halves the resolution.")


@SECTIONS.register("cells")
class Cells(Section):
    """The two cells that a search found."""

    title = "The cells that were found"
    lead = "Boxes are operations, circles the sums of what they give; the output joins all circles (dashed)."
    payload = GenotypePayload
    place = 50

    def groups(self, found: Sequence[Found[GenotypePayload]]) -> list[Group]:
        groups = []
        for each in found:
            for number, (title, _row, genotype) in enumerate(each.headed()):
                drawn = (draw_cell(genotype.normal, "normal cell"), draw_cell(genotype.reduce, "reduction cell"))
                groups.append(Group(title, drawn, wide=True, folded=number > 0))
        return groups
