"""How a teacher grew."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.plots import bars
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.report.tables import plain


class GrowthPayload(Payload):
    """`growth.json`: how a student became a teacher."""

    file = "growth.json"

    steps: list[dict[str, Any]] = Field(description="One mapping of plain values per step of the plan.")
    units: list[str] = Field([], description="Name of each unit of channels; artifacts of earlier versions have none.")
    importance: dict[str, list[float]] = Field(description="Importance per unit, by the moment of measuring.")
    widths: dict[str, list[float]] = Field(description="Width per unit, `before` and `after`.")


@SECTIONS.register("growth")
class HowItGrew(Section):
    """Widths and importance of units, and the steps of a growth plan."""

    title = "Growth of the teacher"
    lead = "Width and importance of each unit of channels, before and after, and the plan step by step."
    payload = GrowthPayload
    place = 60

    def of_seed(self, heading: str, payload: GrowthPayload, row: Row) -> list[Group]:
        pictures = tuple(
            bars(values, payload.units or list(map(str, range(most))), name, "unit", y)
            for values, name, y in (
                (payload.widths, "Width of each unit", "channels"),
                (payload.importance, "Importance of each unit", "importance"),
            )
            if (most := max(map(len, values.values()), default=0))
        )
        return [Group(heading, pictures, plain(payload.steps) if payload.steps else None)]


class ShrinkingPayload(GrowthPayload):
    """`shrinking.json`: how a network lost channels."""

    file = "shrinking.json"


@SECTIONS.register("shrinking")
class HowItShrank(HowItGrew):
    """Widths and importance of units, and the rounds in which channels left."""

    title = "Shrinking of the network"
    lead = "Width and importance of each group of channels, before and after, and the rounds one by one."
    payload = ShrinkingPayload
    place = 61
