"""The outcome of a sweep in one table: for people as Markdown and on the page, for programs as CSV."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nasdistill.errors import UserError
from nasdistill.ledger import Ledger
from nasdistill.report import payloads, tables, words
from nasdistill.report.parts import Group, Part
from nasdistill.report.points import value_in_words
from nasdistill.report.records import Row, RunRecord
from nasdistill.report.summaries import StageSummary, by_stage, one_score, shipped, summarise, summary_of
from nasdistill.report.tables import SHOWN, Cell, Table, over_seeds, raw
from nasdistill.words import NONE, duration, size

log = logging.getLogger(__name__)

MARKDOWN = "sweep.md"
CSV = "sweep.csv"
VALIDATION_ACCURACY = "validation/accuracy"
ALL = "all"  # stands where a swept key does not reach a stage
BEST = "best"


@dataclass(frozen=True)
class Line:
    """A stage at one point, over all seeds.

    Attributes:
        point: the swept keys that reach the stage, with their values.
        validation: score of the kept weights on the validation images in percent by seed, where there is one.
        best: whether validation prefers it to the same stage at other points.
    """

    point: Mapping[str, Any]
    stage: str
    summary: StageSummary
    validation: Mapping[int, float]
    best: bool = False


def lines(record: RunRecord) -> list[Line]:
    """A line per stage and point, stage by stage."""
    found = []
    for summary in by_stage(record.rows):
        first = summary.rows[0]
        scores = {row.seed: score for row in summary.rows if (score := validation_of(row)) is not None}
        found.append(Line(first.point, first.stage, summary, scores))
    stages = list(dict.fromkeys(line.stage for line in found))
    return _marked(sorted(found, key=lambda line: stages.index(line.stage)), record.sweep)


def validation_of(row: Row) -> float | None:
    """The validation score that selects, of the kept weights; else the highest validation accuracy, if there is any."""
    if (selected := row.metrics.get("validation")) is not None:
        return float(selected["score"])
    try:
        history = payloads.of_row(payloads.HistoryPayload, row)
    except UserError as error:
        log.warning("%s; the sweep's table leaves its validation score out", error)
        return None
    curve = history.curves.get(VALIDATION_ACCURACY) if history is not None else None
    return max(value for _, value in curve) if curve else None


def _marked(found: Sequence[Line], sweep: Mapping[str, Any]) -> list[Line]:
    """The lines, that of the last trained stage marked that validation prefers; the test set selects nothing.

    Nothing is marked if a seed has no validation score at some point or one of another kind, or if data are swept, as
    points then differ in their validation images.
    """
    last = final_stage(found)
    rivals = [line for line in found if line.stage == last]
    seeds = {row.seed for line in rivals for row in line.summary.rows}
    complete = all(line.validation.keys() == seeds for line in rivals)
    complete = complete and one_score([line.summary for line in rivals])
    if len(rivals) < 2 or not complete or any(key.split(".")[0] == "data" for key in sweep):
        return list(found)
    means = {line.summary.stage: summarise(list(line.validation.values())).mean for line in rivals}
    best = max(means, key=means.__getitem__)
    return [replace(line, best=line.summary.stage == best) for line in found]


def final_stage(found: Sequence[Line]) -> str | None:
    """The last stage that has an accuracy and that a swept key reaches."""
    return next((line.stage for line in reversed(found) if line.point and line.summary.accuracies()), None)


def to_take(record: RunRecord) -> StageSummary | None:
    """The stage whose network is to be taken: of a sweep at the point that validation prefers; None where none is."""
    found = lines(record) if record.sweep else []
    last = final_stage(found)
    if sum(line.stage == last for line in found) > 1:
        return next((line.summary for line in found if line.best), None)
    return shipped(by_stage(record.rows))


def published(record: RunRecord, stage: str, point: Mapping[str, Any]) -> float | None:
    """What others report for a stage at a point, in percent; None where nothing is known."""
    found = record.published.get(stage)
    for key in record.sweep:
        if key in point:
            found = found.get(value_in_words(point[key])) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | float) else None


def outcome(record: RunRecord) -> Table:
    """For people: the swept keys, the stage, its scores as mean ± sample deviation with each seed's, its costs."""
    found = lines(record)
    test = tables.on_test([line.summary for line in found])
    header = (
        *record.sweep,
        "stage",
        "validation",
        *(f"accuracy %, {kind}" for kind in SHOWN),
        *(["published %"] if record.published else []),
        *test,
        "parameters",
        "size",
        "time",
        "validation score %",
    )
    rows = tuple(
        (
            *(Cell(value_in_words(line.point[key]) if key in line.point else ALL) for key in record.sweep),
            Cell(line.stage),
            Cell(BEST if line.best else ""),
            *(over_seeds(line.summary.accuracy(kind)) for kind in SHOWN),
            *([_percent(published(record, line.stage, line.point))] if record.published else []),
            *tables.cells_on_test(line.summary, test),
            Cell(words.counted(line.summary.numbers("parameters"))),
            Cell(size(line.summary.mean("bytes"))),
            Cell(duration(line.summary.mean("seconds"))),
            over_seeds(summary_of(line.validation.values())),
        )
        for line in found
    )
    return Table(header, rows, words=len(record.sweep) + 2)


def grid(record: RunRecord) -> Group | None:
    """With two swept keys: accuracy of the last stage they reach, a row per value of the first key.

    Beneath a row stands what others report, where that is known.
    """
    found = lines(record)
    last = final_stage(found)
    if len(record.sweep) != 2 or last is None:
        return None
    (down, rows), (across, columns) = record.sweep.items()

    def cell(point: Mapping[str, Any]) -> Cell:
        for line in found:
            if line.stage == last and all(point[key] == value for key, value in line.point.items()):
                accuracy = over_seeds(line.summary.accuracy())
                return replace(accuracy, text=f"{accuracy.text} ({BEST})") if line.best else accuracy
        return Cell(NONE)

    cells = []
    for row in rows:
        points = [{down: row, across: column} for column in columns]
        cells.append((Cell(value_in_words(row)), *map(cell, points)))
        reported = [published(record, last, point) for point in points]
        if any(value is not None for value in reported):
            cells.append((Cell("published"), *map(_percent, reported)))
    kind = next(line.summary.counts for line in found if line.stage == last)
    table = Table((f"{down} / {across}", *map(value_in_words, columns)), tuple(cells))
    return Group(f"{kind.capitalize()} test accuracy of {last}, %", table=table)


def _percent(value: float | None) -> Cell:
    return Cell(NONE if value is None else f"{value:.2f}")


def numbers(record: RunRecord) -> Table:
    """For programs: every number as it is, with mean, sample deviation, count and the value of each seed."""
    measured = (*SHOWN, "validation")
    parts = ("mean", "deviation", "n", *(f"seed_{seed}" for seed in record.seeds))
    scores = [metric for metric, _ in tables.ON_TEST.values()]
    costs = ("parameters", "bytes", "multiply_adds", "latency_ms", "seconds")
    accuracies = [f"{kind}_{part}" for kind in measured for part in parts]
    header = (*record.sweep, "stage", "uses", *accuracies, *scores, *costs, BEST)
    rows = []
    for line in lines(record):
        by_seed = [*(line.summary.accuracies(kind) for kind in SHOWN), line.validation]
        rows.append(
            [
                *(value_in_words(line.point[key]) if key in line.point else "" for key in record.sweep),
                line.stage,
                line.summary.uses,
                *(value for seeds in by_seed for value in _over_seeds(seeds, record.seeds)),
                *(found.mean if (found := line.summary.on_test(score)) else None for score in scores),
                *map(line.summary.mean, costs),
                int(line.best),
            ]
        )
    return raw(header, rows)


def _over_seeds(accuracies: Mapping[int, float], seeds: Sequence[int]) -> list[float | None]:
    summary = summary_of(accuracies.values())
    mean, deviation = (summary.mean, summary.deviation) if summary else (None, None)
    return [mean, deviation, len(accuracies), *(accuracies.get(seed) for seed in seeds)]


def part(record: RunRecord) -> Part:
    """The part of the page that joins the points."""
    lead = f'"{ALL}" stands where a swept value does not reach a stage: it ran once for all of them.'
    if any(line.best for line in lines(record)):
        lead += f' "{BEST}" is what the validation images prefer; test accuracy selects nothing.'
    return Part("The sweep", lead, tuple(filter(None, (grid(record), Group("", table=outcome(record))))))


def write_sweep(record: RunRecord, folder: Path) -> None:
    """Write `sweep.md` and `sweep.csv`; where nothing was swept, remove those of an earlier run."""
    ledger = Ledger(folder)
    if not record.sweep:
        for name in (MARKDOWN, CSV):
            ledger.remove(name)
        return
    text = f"# {record.name}\n\n"
    pairs = grid(record)
    if pairs and pairs.table:
        text += f"{pairs.title}:\n\n{tables.markdown(pairs.table)}\n"
    ledger.write(MARKDOWN, f"{text}{part(record).lead}\n\n{tables.markdown(outcome(record))}")
    ledger.write(CSV, tables.to_csv(numbers(record)))
