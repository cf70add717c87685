"""How soon students that see no image come near their teacher."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nasdistill.report import courses, plots, tables
from nasdistill.report.parts import Group
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.sections.pseudo_images import PseudoPayload
from nasdistill.report.summaries import StageSummary
from nasdistill.report.tables import Cell, Table
from nasdistill.words import NONE, duration

NEAR = (0.5, 0.75, 0.9)
"""Shares of the teacher's accuracy."""


@SECTIONS.register("without-data")
class WithoutData(Section):
    """Test accuracy over the time of transfers without data."""

    title = "Without data, over time"
    lead = (
        "Test accuracy over the seconds that a transfer had taken, without its evaluations; and how soon an evaluation "
        "first found a share of the teacher's accuracy, the median over seeds."
    )
    payload = PseudoPayload
    place = 6

    def groups(self, found: Sequence[Found[PseudoPayload]]) -> list[Group]:
        timed = [each.stage for each in found if any(row.over_time for row in each.stage.rows)]
        over_time = {stage.stage: curves(stage) for stage in timed}
        pictures = courses.pictures(timed, over_time, "Test accuracy over time", "seconds")
        return [Group("", tuple(pictures), _soon(timed))] if timed else []


def curves(stage: StageSummary) -> list[plots.Curve]:
    """Of each seed, all at the mean seconds of an evaluation."""
    told = [row.over_time for row in stage.rows if row.over_time]
    seconds = [statistics.fmean(at for at, _accuracy in points) for points in zip(*told, strict=False)]
    return [[(at, accuracy) for at, (_, accuracy) in zip(seconds, curve, strict=False)] for curve in told]


def _soon(stages: Sequence[StageSummary]) -> Table:
    header = ("stage", "teacher's accuracy, %", *(f"time to {100 * share:.0f} % of it" for share in NEAR))
    lines = ((Cell(stage.stage), _teacher(stage), *(soon(stage, share) for share in NEAR)) for stage in stages)
    return Table(header, tuple(lines))


def _teacher(stage: StageSummary) -> Cell:
    return tables.over_seeds(stage.on_test("taught_by_accuracy"), 2)


def soon(stage: StageSummary, share: float) -> Cell:
    """The median time over the seeds that came so far, and how many did where others did not."""
    times = [_first_at(row, share) for row in stage.rows]
    known = [time for time in times if time is not None]
    some = f"{len(known)} of {len(times)} seeds" if 0 < len(known) < len(times) else ""
    return Cell(duration(statistics.median(known)) if known else NONE, some)


def _first_at(row: Row, share: float) -> float | None:
    """The seconds after which an evaluation first found that share of the teacher's accuracy; None where none did."""
    teacher = row.metrics.get("taught_by_accuracy")
    if teacher is None:
        return None
    return next((seconds for seconds, accuracy in row.over_time if accuracy >= share * teacher), None)
