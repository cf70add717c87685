"""Searches side by side, where a table knows what their cells really score."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from nasdistill.report import plots
from nasdistill.report.parts import Group
from nasdistill.report.payloads import HistoryPayload, by_seed
from nasdistill.report.search_tables import compared, first_of, side_by_side
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.sections.truth import TruthPayload
from nasdistill.report.summaries import StageSummary


@SECTIONS.register("strategies")
class Strategies(Section):
    """What several searches found, how soon, and how much they knew."""

    title = "Strategies compared"
    lead = (
        "Regret is how many points of test accuracy the best cell has more. Rank correlation is Spearman's, of what a "
        "search thought of cells in the end with what they really score: of all cells by the strengths of their "
        "operations, or of those that were tried by their scores. Equal edges are those that two seeds agree on, of "
        "all pairs of seeds; by chance it is 20 %. Time within a search is taken to pass evenly; one that trains "
        "shared weights before its trials is not drawn, as no trial counts that time."
    )
    payload = TruthPayload
    place = 4

    def groups(self, found: Sequence[Found[TruthPayload]]) -> list[Group]:
        searches = compared(found)
        return [Group("", tuple(_pictures(searches)), side_by_side(searches))] if searches else []


def _pictures(searches: Sequence[Found[TruthPayload]]) -> Iterator[str]:
    """Regret on the first data set over seconds, of those that would have found something before their end."""
    name = next(iter(first_of(searches[0]).standings))
    series = {each.stage.stage: curves for each in searches if (curves := _regret_curves(each.stage, name))}
    for shown in plots.shared_out(series):
        yield plots.lines(shown, f"Regret on {name}", "seconds", "points")


def _trained_before_trials(history: HistoryPayload) -> bool:
    return history.found_x != history.x and any(not name.startswith("regret/") for name in history.curves)


def _regret_curves(stage: StageSummary, name: str) -> list[plots.Curve]:
    """Of each seed over seconds, all at the same ones; what is found stays found until the next is."""
    histories = by_seed(HistoryPayload, stage.rows)  # a damaged one is named where its own curves would be
    curves = [
        curve
        for each in histories.values()
        if (curve := each.curves.get(f"regret/{name}")) and not _trained_before_trials(each)
    ]
    seconds = stage.mean("seconds")
    if not curves or seconds is None:
        return []
    scale = seconds / max(1.0, statistics.fmean(curve[-1][0] for curve in curves))
    shared = sorted({x for curve in curves for x, _regret in curve if x >= max(first[0][0] for first in curves)})
    return [[(scale * x, [y for at, y in curve if at <= x][-1]) for x in shared] for curve in curves]
