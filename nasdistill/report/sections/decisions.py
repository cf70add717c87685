"""How decided the edges of a searched cell are."""

from __future__ import annotations

from pydantic import BaseModel, Field

from nasdistill.models.genotypes import CellGraph
from nasdistill.report import tables
from nasdistill.report.parts import Group
from nasdistill.report.payloads import NotNegative, Payload
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section


class DecidedEdge(BaseModel):
    """What one edge keeps."""

    cell: str = Field(description="Its kind.")
    state: int = Field(ge=0, description="That it reads.")
    node: int = Field(ge=0, description="That reads it.")
    kept: str = Field(description="Its strongest operation.")
    next: str = Field(description="The one after it.")
    margin: NotNegative = Field(description="How far the first is ahead, in units of alpha.")
    noise: NotNegative = Field(description="Standard deviation that chance alone gives such a margin.")
    decided: bool = Field(description="Whether the margin is more than chance gives.")


class DecisionsPayload(Payload):
    """`decisions.json`: the edges of the cells that a search relaxed."""

    file = "decisions.json"

    edges: list[DecidedEdge] = Field(min_length=1, description="In order.")

    def near_ties(self, cell: CellGraph) -> set[tuple[int, int]]:
        """(state, node) of each edge of a cell whose operation is the strongest by chance."""
        kept = {(state, node, name) for node, edges in enumerate(cell.edges) for name, state in edges}
        return {
            (edge.state, edge.node)
            for edge in self.edges
            if edge.cell == cell.kind and not edge.decided and (edge.state, edge.node, edge.kept) in kept
        }


@SECTIONS.register("decisions")
class Decisions(Section):
    """How decided each edge of a searched cell is."""

    title = "What the search decided"
    lead = (
        "How far the operation that an edge keeps is ahead of the next, beside the noise of such a lead, which is "
        "estimated from two halves of the search's own steps. A lead of less than twice its noise is chance. An edge "
        "that is weaker than its node's others may be left out of the cell."
    )
    payload = DecisionsPayload
    place = 51

    def of_seed(self, heading: str, payload: DecisionsPayload, row: Row) -> list[Group]:
        decided = sum(edge.decided for edge in payload.edges)
        lines = tuple(
            (
                tables.Cell(f"{edge.cell}: state {edge.state} to node {edge.node}"),
                tables.Cell(edge.kept),
                tables.Cell(edge.next),
                tables.Cell("images" if edge.decided else "chance"),
                tables.Cell(f"{edge.margin:.2g}"),
                tables.Cell(f"{edge.noise:.2g}"),
            )
            for edge in payload.edges
        )
        table = tables.Table(("edge", "keeps", "next", "decided by", "lead", "noise"), lines, words=4)
        return [Group(heading, table=table, note=f"{decided} of {len(lines)} edges are decided.")]
