"""Tables of searches whose cells a benchmark knows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import chain, combinations

from nasdistill.models.cell_strings import SKIP, parse_cell
from nasdistill.report import tables, words
from nasdistill.report.sections import Found
from nasdistill.report.sections.truth import Architecture, TruthPayload
from nasdistill.report.summaries import summarise, summary_of
from nasdistill.words import NONE, duration

OF_SEARCHES = ("time", "skips", "equal edges", "rank correlation")


def compared(found: Sequence[Found[TruthPayload]]) -> list[Found[TruthPayload]]:
    """The searches, if there are several."""
    searches = [each for each in found if each.stage.uses == "search"]
    return searches if len(searches) > 1 else []


def side_by_side(searches: Sequence[Found[TruthPayload]]) -> tables.Table:
    """A line for each search, the best on the first data set first."""
    first, *others = first_of(searches[0]).standings
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
    known, seeds = sum(each is not None for each in correlations), len(correlations)
    yield tables.Cell(words.spread(summary_of(correlations)), f"{known} of {seeds} seeds" if 0 < known < seeds else "")


def _accuracy(architectures: Sequence[Architecture], name: str) -> tables.Cell:
    accuracy = summarise([each.standings[name].accuracy for each in architectures])
    return tables.Cell(words.spread(accuracy), words.each(accuracy))


def _regrets(search: Found[TruthPayload], name: str) -> list[float]:
    return [payload.architectures[0].standings[name].regret for payload in search.by_seed.values()]


def first_of(search: Found[TruthPayload]) -> Architecture:
    """What the first seed found."""
    return next(iter(search.by_seed.values())).architectures[0]
