"""What architectures score once they are trained, by the table of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field, model_validator

from nasdistill.report import tables
from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload, Percent
from nasdistill.report.points import value_in_words
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.words import whole


class Standing(BaseModel):
    """What an architecture scores on one data set."""

    accuracy: Percent = Field(description="On the test images.")
    rank: int = Field(ge=1, description="Among all of the space; equal ones share the better rank.")
    regret: Percent = Field(description="Points that the best of all has more.")


class Architecture(BaseModel):
    """What a table says of an architecture."""

    name: str | dict[str, Any] = Field(description="As the recipe names it.")
    cell: str = Field(description="In the benchmark's form.")
    standings: dict[str, Standing] = Field(min_length=1, description="By data set.")


class TruthPayload(Payload):
    """`truth.json`: architectures that a table knows."""

    file = "truth.json"

    architectures: list[Architecture] = Field(min_length=1, description="In the order of the recipe.")

    @model_validator(mode="after")
    def _same_data_sets(self) -> TruthPayload:
        if any([*each.standings] != [*self.architectures[0].standings] for each in self.architectures):
            raise ValueError("all architectures must be scored on the same data sets")
        return self


@SECTIONS.register("truth")
class Truth(Section):
    """True accuracy, rank and regret of searched cells."""

    title = "What the cells really score"
    lead = (
        "Test accuracy after the training of NAS-Bench-201, rank among its 15,625 cells, and regret: the points "
        "that the best one has more. No search has seen these numbers. Cells that are one function were trained apart, "
        "and differ by their seeds."
    )
    payload = TruthPayload
    place = 5

    def groups(self, found: Sequence[Found[TruthPayload]]) -> list[Group]:
        return [Group(each.stage.stage, table=table(each.by_seed)) for each in found]


def table(found: Mapping[int, TruthPayload]) -> tables.Table:
    """A line for each architecture of each seed, which is named where there are several."""
    architectures = [(seed, each) for seed, payload in found.items() for each in payload.architectures]
    several = len(found) > 1
    header = ["architecture", *["seed"] * several]
    for name in architectures[0][1].standings:
        header += [f"{name} %", "rank", "regret"]
    rows = tuple(
        (
            tables.Cell(value_in_words(each.name), "" if each.name == each.cell else each.cell),
            *[tables.Cell(str(seed))] * several,
            *(cell for standing in each.standings.values() for cell in _cells(standing)),
        )
        for seed, each in architectures
    )
    return tables.Table(tuple(header), rows)


def _cells(standing: Standing) -> tuple[tables.Cell, ...]:
    return (
        tables.Cell(f"{standing.accuracy:.2f}"),
        tables.Cell(whole(standing.rank)),
        tables.Cell(f"{standing.regret:.2f}"),
    )
