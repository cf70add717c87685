"""Tables: a few rows of text, written as Markdown, as CSV, or by the page as HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdistill.report import words
from nasdistill.report.summaries import OTHER_IMAGES, Difference, StageSummary, Summary, summary_of
from nasdistill.words import NONE, duration, short, size, whole

SHOWN = ("selected", "last", "best")
"""Accuracies in a table; the one that counts comes first, where a phone shows it."""
BALANCED, AUC = "balanced accuracy %", "AUC"
OVER_CLASSES = {BALANCED: ("balanced_accuracy", 2), AUC: ("auc", 4)}
"""Columns of scores that classes of unequal size do not flatter: the metric that each shows, and its digits."""
MISCLASSIFIED, TOP5, LOSS = "misclassified", "top-5 %", "loss, nats"
ON_TEST = {MISCLASSIFIED: ("misclassified", 0), TOP5: ("top5", 2), LOSS: ("loss", 4)}
"""Columns of what the kept weights score on the test images: the metric that each shows, and its digits."""
UNEQUAL = 2.0
"""How many times as many test images as the rarest class the most frequent one has where such scores are shown."""
COMPARED = {
    "mean transition error": (words.TRANSITION_ERROR, 4),
    "agreement, %": ("agreement", 2),
    "KL(teacher, student), nats": ("kl", 4),
    "student's accuracy, %": ("student_accuracy", 2),
    "teacher's accuracy, %": ("teacher_accuracy", 2),
    "images walked from": ("images", 0),
}
"""Columns of a table of comparisons: the metric that each shows, and its digits."""


@dataclass(frozen=True)
class Cell:
    """One cell; `detail` is what stands below it in smaller type, e.g. the value of each seed."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.detail})" if self.detail else self.text


@dataclass(frozen=True)
class Table:
    """Every row has as many cells as `header`; the first `words` columns hold words, the rest numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1


def results(stages: Sequence[StageSummary]) -> Table:
    """Accuracy, size, latency and time of every stage: mean ± sample deviation and each seed's value.

    Size and latency are those of a network's exported file, in its runtime, where there is one.
    With the misclassified test images, top-5 (where it is not always right) and loss of the kept weights; with the
    scores over classes where there are two or where they differ in size, and with the accuracy on other images than
    those of the test where a stage evaluated on them.
    """
    metrics = [row.metrics for stage in stages for row in stage.rows]
    test = on_test(stages)
    two = any("auc" in found for found in metrics)
    unequal = two or any(found.get("imbalance", 1) >= UNEQUAL for found in metrics)
    over_classes = [name for name, shown in ((BALANCED, unequal), (AUC, two)) if shown]
    others = [part for part in OTHER_IMAGES if any(stage.accuracy_on(part) for stage in stages)]
    header = (
        "stage",
        *(f"accuracy %, {kind}" for kind in SHOWN),
        *(f"accuracy %, {part} images" for part in others),
        *test,
        *over_classes,
        "parameters",
        "size",
        "multiply-adds",
        "latency ms",
        "time",
    )
    return Table(header, tuple(_result(stage, stages, others, test, over_classes) for stage in stages))


def on_test(stages: Sequence[StageSummary]) -> tuple[str, ...]:
    """Those columns of `ON_TEST` that tell something of these stages; top-5 does not where it is always right."""
    has = {name for name, (metric, _) in ON_TEST.items() if any(stage.on_test(metric) for stage in stages)}
    if all(row.metrics.get("top5", 100) == 100 for stage in stages for row in stage.rows):
        has -= {TOP5}
    return tuple(name for name in ON_TEST if name in has)


def cells_on_test(stage: StageSummary, columns: Sequence[str]) -> tuple[Cell, ...]:
    """What the kept weights score, in the columns that `on_test` gave."""
    return tuple(over_seeds(stage.on_test(metric), digits) for metric, digits in map(ON_TEST.__getitem__, columns))


def _result(
    stage: StageSummary,
    stages: Sequence[StageSummary],
    others: Sequence[str],
    test: Sequence[str],
    over_classes: Sequence[str],
) -> tuple[Cell, ...]:
    accuracies = (*(stage.accuracy(kind) for kind in SHOWN), *(stage.accuracy_on(part) for part in others))
    exported = stage.exported(stages)
    file = f"as {exported.form}" if exported else ""
    latency = (exported or stage).numbers("latency_ms")
    by_teacher = any("scored_by" in row.metrics for row in stage.rows)
    return (
        Cell(stage.stage, "as its teacher answers: no labels" if by_teacher else ""),
        *map(over_seeds, accuracies),
        *cells_on_test(stage, test),
        *(_metric(stage, *OVER_CLASSES[name]) for name in over_classes),
        Cell(words.counted(stage.numbers("parameters"))),
        Cell(size((exported or stage).mean("bytes")), file),
        Cell(short(stage.mean("multiply_adds"))),
        Cell(words.spread(latency), (file or "in torch") if latency else ""),
        Cell(duration(stage.mean("seconds"))),
    )


def _metric(stage: StageSummary, metric: str, digits: int) -> Cell:
    return over_seeds(summary_of(row.metrics.get(metric) for row in stage.rows), digits)


def differences(pairs: Sequence[tuple[str, str, Difference]]) -> Table:
    """Pairs of names with the difference of their accuracy in points and its confidence interval."""
    header = ("this", "against", "accuracy", "difference, points", "95 % interval", "seeds", "excludes zero")
    rows = tuple(
        (
            Cell(name),
            Cell(other),
            Cell(difference.kind),
            Cell(f"{difference.mean:+.2f}"),
            Cell(words.interval(difference)),
            Cell(str(difference.pairs)),
            Cell(NONE if difference.low is None else "yes" if difference.sure else "no"),
        )
        for name, other, difference in pairs
    )
    return Table(header, rows, words=3)


def comparisons(stages: Sequence[StageSummary]) -> Table | None:
    """How close the two networks are that each stage of this kind compared; None where no stage did."""
    rows = tuple(
        (Cell(stage.stage), *(_metric(stage, *shown) for shown in COMPARED.values()))
        for stage in stages
        if all(words.TRANSITION_ERROR in row.metrics for row in stage.rows)
    )
    return Table(("stage", *COMPARED), rows) if rows else None


def over_seeds(summary: Summary | None, digits: int = 2) -> Cell:
    """Mean ± sample deviation, and each seed's value below."""
    return Cell(words.spread(summary, digits), words.each(summary, digits))


def raw(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table for programs: every value as it is, nothing where there is none."""
    cells = (tuple(Cell("" if value is None else str(value)) for value in row) for row in rows)
    return Table(tuple(header), tuple(cells), words=0)


def plain(records: Sequence[Mapping[str, Any]]) -> Table:
    """A table of plain data, e.g. the steps of a growth plan: one column per key, in order of appearance."""
    header = tuple(dict.fromkeys(key for record in records for key in record))
    rows = tuple(tuple(Cell(_plain(record.get(key))) for key in header) for record in records)
    return Table(tuple(key.replace("_", " ") for key in header), rows, words=0)


def _plain(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else whole(value)
    if isinstance(value, list | tuple):
        return " ".join(_plain(item) for item in value)
    return str(value)


def markdown(table: Table) -> str:
    """A Markdown table; markup in names is inert."""
    lines = [table.header, tuple("---" if i < table.words else "---:" for i in range(len(table.header)))]
    lines += [tuple(str(cell) for cell in row) for row in table.rows]
    return "".join("| " + " | ".join(escaped(text) for text in line) + " |\n" for line in lines)


def escaped(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    one_line = " ".join(html.escape(text, quote=False).split())
    return "".join("\\" + letter if letter in "\\`*_[]|" else letter for letter in one_line)


def to_csv(table: Table) -> str:
    """Comma-separated values, a header first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([str(cell) for cell in row] for row in table.rows)
    return buffer.getvalue()
