"""Searches side by side, where a table knows what their cells really score."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import chain, combinations

from nasdistill.models.cell_strings import SKIP, parse_cell
from nasdistill.report import plots, tables, words
from nasdistill.report.parts import Group
from nasdistill.report.payloads import HistoryPayload, by_seed
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.sections.truth import Architecture, TruthPayload
from nasdistill.report.summaries import StageSummary, summarise, summary_of
from nasdistill.words import NONE, duration

MOST_LINES = len(plots.SERIES)
"""In one picture, so that each has a look of its own."""

OF_SEARCHES = ("time", "skips", "equal edges", "rank correlation")


@SECTIONS.register("strategies")
class Strategies(Section):
    """What several searches found, how soon, and how much they knew."""

    title = "Strategies compared"
    lead = (
        "Regret is how many points of test accuracy the best cell has more. Rank correlation is Spearman's, of what a "
        "search thought of cells in the end with what they really score: of all cells by the strengths of their "
        "operations, or of those that were tried by their scores. Equal edges are those that two seeds agree on, of "
        "all pairs of seeds; by chance it is 20 %. Time within a search is taken to pass evenly."
    )
    payload = TruthPayload
    place = 4

    def groups(self, found: Sequence[Found[TruthPayload]]) -> list[Group]:
        searches = compared(found)
        return [Group("", tuple(_pictures(searches)), table(searches))] if searches else []


def compared(found: Sequence[Found[TruthPayload]]) -> list[Found[TruthPayload]]:
    """The searches, if there are several."""
    searches = [each for each in found if each.stage.uses == "search"]
    return searches if len(searches) > 1 else []


def table(searches: Sequence[Found[TruthPayload]]) -> tables.Table:
    """A line for each search, the best on the first data set first."""
    first, *others = _of_first(searches[0]).standings
    accuracies = [f"{name} %" for name in (first, *others)]
    header = ("search", accuracies[0], "median rank", "regret", *accuracies[1:], *OF_SEARCHES)
    lines = sorted(searches, key=lambda each: summarise(_regrets(each, first)).mean)
    return tables.Table(header, tuple(tuple(_line(each, first, others)) for each in lines))


def _line(search: Found[TruthPayload], first: str, others: Sequence[str]) -> Iterator[tables.Cell]:
    architectures = [payload.architectures[0] for payload in search.by_seed.values()]
    yield tables.Cell(search.stage.stage)
    yield _accuracy(architectures, first)
    yield tables.Cell(f"{statistics.median(each.standings[first].rank for each in architectures):,.0f}")
    yield tables.Cell(words.spread(summarise(_regrets(search, first))))
    yield from (_accuracy(architectures, name) for name in others)
    yield tables.Cell(duration(search.stage.mean("seconds")))
    operations = [list(chain(*parse_cell(each.cell))) for each in architectures]
    yield tables.Cell(words.spread(summarise([float(each.count(SKIP)) for each in operations]), 1))
    equal = [statistics.fmean(map(str.__eq__, one, other)) for one, other in combinations(operations, 2)]
    yield tables.Cell(f"{100 * statistics.fmean(equal):.0f} %" if equal else NONE)
    correlations = [row.metrics.get("rank_correlation", {}).get(first) for row in search.stage.rows]
    yield tables.Cell(words.spread(summary_of(correlations)))


def _accuracy(architectures: Sequence[Architecture], name: str) -> tables.Cell:
    accuracy = summarise([each.standings[name].accuracy for each in architectures])
    return tables.Cell(words.spread(accuracy), words.each(accuracy))


def _pictures(searches: Sequence[Found[TruthPayload]]) -> Iterator[str]:
    """Regret on the first data set over seconds, of those that would have found something before their end."""
    name = next(iter(_of_first(searches[0]).standings))
    series = {each.stage.stage: curves for each in searches if (curves := _regret_curves(each.stage, name))}
    count = -(-len(series) // MOST_LINES)
    for part in range(count):
        shown = dict(list(series.items())[part::count])
        yield plots.lines(shown, f"Regret on {name}", "seconds", "points")


def _regret_curves(stage: StageSummary, name: str) -> list[plots.Curve]:
    """Of each seed over seconds, all at the same ones; what is found stays found until the next is."""
    histories = by_seed(HistoryPayload, stage.rows)  # a damaged one is named where its own curves would be
    curves = [curve for each in histories.values() if (curve := each.curves.get(f"regret/{name}"))]
    seconds = stage.mean("seconds")
    if not curves or seconds is None:
        return []
    scale = seconds / max(1.0, statistics.fmean(curve[-1][0] for curve in curves))
    shared = sorted({x for curve in curves for x, _regret in curve if x >= max(first[0][0] for first in curves)})
    return [[(scale * x, [y for at, y in curve if at <= x][-1]) for x in shared] for curve in curves]


def _regrets(search: Found[TruthPayload], name: str) -> list[float]:
    return [payload.architectures[0].standings[name].regret for payload in search.by_seed.values()]


def _of_first(search: Found[TruthPayload]) -> Architecture:
    return next(iter(search.by_seed.values())).architectures[0]
