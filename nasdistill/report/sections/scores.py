"""What networks promised before they were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, model_validator

from nasdistill.report import tables
from nasdistill.report.parts import Group
from nasdistill.report.payloads import NotNegative, Payload, Percent
from nasdistill.report.points import value_in_words
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.words import NONE, short, whole


class ScoredNetwork(BaseModel):
    """A network and what proxies say of it."""

    model: str | dict[str, Any] = Field(description="As the recipe names it.")
    parameters: NotNegative
    multiply_adds: NotNegative
    scores: dict[str, float | None] = Field(min_length=1, description="By proxy; None where it is not finite.")
    seconds: dict[str, NotNegative] = Field(description="That each took.")
    standing: Percent | None = Field(
        description="Percent of the other networks that it is scored above, the mean over the proxies."
    )


class ScoresPayload(Payload):
    """`scores.json`: networks that were scored untrained."""

    file = "scores.json"

    images: int = Field(gt=0, description="In the batch.")
    networks: list[ScoredNetwork] = Field(min_length=1, description="In the order of the recipe.")

    @model_validator(mode="after")
    def _consistent(self) -> ScoresPayload:
        names = [*self.networks[0].scores]
        if any([*each.scores] != names or [*each.seconds] != names for each in self.networks):
            raise ValueError("all networks must be scored and timed by the same proxies")
        return self


@SECTIONS.register("scores")
class Scores(Section):
    """Networks with their scores by proxies, the best first."""

    title = "Scores before training"
    lead = (
        "What proxies say of each network as it was initialised, from one batch, and the time that they took. The best "
        "comes first, by the percent of the other networks that it is scored above, a mean over the proxies. The "
        "scores of one proxy compare with each other alone."
    )
    payload = ScoresPayload
    place = 45

    def of_seed(self, heading: str, payload: ScoresPayload, row: Row) -> Sequence[Group]:
        return [Group(heading, table=table(payload))]


def table(found: ScoresPayload) -> tables.Table:
    """A line for each network, the best first and those without a score last."""
    ranked = sorted(found.networks, key=lambda each: -1 if each.standing is None else each.standing, reverse=True)
    names = [*found.networks[0].scores]
    rows = tuple(
        (
            tables.Cell(value_in_words(each.model)),
            tables.Cell(NONE if each.standing is None else f"{each.standing:.1f}"),
            *(_score(each.scores[name], each.seconds[name]) for name in names),
            tables.Cell(whole(each.parameters)),
            tables.Cell(short(each.multiply_adds)),
        )
        for each in ranked
    )
    return tables.Table(("network", "above others, %", *names, "parameters", "multiply-adds"), rows)


def _score(value: float | None, seconds: float) -> tables.Cell:
    return tables.Cell(NONE if value is None else f"{value:.4g}", f"{1000 * seconds:.0f} ms")
