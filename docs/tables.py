"""Write the tables of the pages of results anew, from the rows in `docs/results/*.csv`: `python -m docs.tables`.

A table stands between a comment that says what it shows and `<!-- end -->`:

    <!-- table:
    rows: flowers                   # of docs/results/flowers.csv, as `nasdistill report RUN... --csv` writes it
    title: network                  # above the first column
    stages: {alone: WRN alone, other-recipe/by32: WRN taught}   # a line for each, and what it is called; of a sweep
                                    # `student wrn-16-1 kd` is the stage where the swept keys have these values
    columns: [parameters, selected, each seed, over alone]      # or `over the one before`
    -->

or, of a sweep, with a line for each point:

    <!-- table:
    rows: teachers
    title: teacher
    points: {wrn-16-2 plain: WRN-16-2}      # the values of its keys, and what they are called
    columns: {fast last: 'Fast, %', fast to 90 %: 'Fast, to 90 %'}      # of a stage one of the columns above
    -->

or what a swept value is worth, see `benchmarks.paired_points`:

    <!-- table:
    rows: growth
    paired: stages.arch.method      # the swept key whose values are compared
    stage: student                  # whose accuracy
    names: {'arch.ratio=': 'times ', '{name: fisher, per: unit}': Fisher}       # in place of words of the points
    -->
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.paired_points import ALL, differences
from nasdistill.report import words
from nasdistill.report.records import ACCURACIES, Row
from nasdistill.report.rows import FIRST
from nasdistill.report.sections import without_data
from nasdistill.report.summaries import StageSummary, summary_of
from nasdistill.words import NONE, short, whole

FOLDER = Path(__file__).parent
TABLE = re.compile(r"(<!-- table:\n(.*?)-->\n).*?(<!-- end -->)", re.DOTALL)
OVER = "over "
"""Begins a column of paired differences, and is followed by the stage that they are to."""
BEFORE = "the one before"

COLUMNS: Mapping[str, Callable[[StageSummary], str]] = {
    **{kind: lambda stage, kind=kind: words.spread(stage.accuracy(kind)) for kind in ACCURACIES},
    "each seed": lambda stage: words.each(stage.accuracy()),
    "validation": lambda stage: words.spread(summary_of(row.metrics["validation"] for row in stage.rows)),
    "parameters": lambda stage: words.counted(stage.numbers("parameters")),
    "multiply-adds": lambda stage: short(stage.mean("multiply_adds")),
    "latency, ms": lambda stage: words.spread(stage.numbers("latency_ms")),
    "seconds": lambda stage: NONE if (mean := stage.mean("seconds")) is None else whole(mean),
    "seeds": lambda stage: str(len(stage.rows)),
    "teacher": lambda stage: words.spread(stage.on_test("taught_by_accuracy")),
    **{
        f"to {100 * share:.0f} %": lambda stage, share=share: str(without_data.soon(stage, share))
        for share in without_data.NEAR
    },
}


def pages() -> list[Path]:
    """All that may have such tables."""
    return [FOLDER / "results.md", *sorted((FOLDER / "results").glob("*.md"))]


def rendered(page: str) -> str:
    """The text of a page with its tables written anew."""
    return TABLE.sub(lambda found: f"{found[1]}\n{table(yaml.safe_load(found[2]))}\n{found[3]}", page)


def table(asked: Mapping[str, Any]) -> str:
    """A table in Markdown.

    Args:
        asked: what stands in the comment above it.
    """
    if "paired" in asked:
        return _paired(asked["rows"], asked["paired"], asked["stage"], asked.get("names", {}))
    stages = read(asked["rows"])
    if "points" in asked:
        return _of_points(asked, stages)
    lines = []
    for stage, name in asked["stages"].items():
        stages.setdefault(BEFORE, stages[stage])  # the first has none
        lines.append((name, *(_cell(stages[stage], column, stages) for column in asked["columns"])))
        stages[BEFORE] = stages[stage]
    named = {BEFORE: BEFORE, **asked["stages"]}
    names = [
        OVER + named[column.removeprefix(OVER)] if column.startswith(OVER) else column for column in asked["columns"]
    ]
    return _markdown((asked["title"], *names), lines)


def _of_points(asked: Mapping[str, Any], stages: Mapping[str, StageSummary]) -> str:
    columns = [name.split(" ", 1) for name in asked["columns"]]
    lines = [
        (name, *(COLUMNS[column](stages[f"{stage} {point}"]) for stage, column in columns))
        for point, name in asked["points"].items()
    ]
    return _markdown((asked["title"], *asked["columns"].values()), lines)


def _cell(stage: StageSummary, column: str, stages: Mapping[str, StageSummary]) -> str:
    if not column.startswith(OVER):
        return COLUMNS[column](stage)
    other = stages[column.removeprefix(OVER)]
    if other is stage:
        return ""
    difference = stage.over(other)
    return NONE if difference is None else f"{round(difference.mean, 2) + 0.0:+.2f} ({words.interval(difference)})"


def _paired(rows: str, key: str, stage: str, names: Mapping[str, str]) -> str:
    """By how much one value of a swept key is over another, seed by seed, at each point of the other keys."""
    found = [
        {
            "stage": line["stage"],
            "seed": int(line["seed"]),
            "point": {name: value for name, value in line.items() if name.startswith("stages.") and value},
            "accuracy": {kind: float(line[kind]) for kind in ACCURACIES if line[kind]},
        }
        for line in _lines(rows)
        if any(line[kind] for kind in ACCURACIES)
    ]
    lines = [
        ("all" if rest == ALL else _named(rest, names), f"{_named(value, names)} over {_named(other, names)}",
         f"{difference.mean:+.2f}", words.interval(difference), str(difference.pairs))
        for rest, value, other, difference in differences(found, stage, key)
    ]  # fmt: skip
    return _markdown(("at", f"the {stage}'s accuracy", "points", "95 %", "seeds"), lines)


def _named(text: str, names: Mapping[str, str]) -> str:
    for word, name in names.items():
        text = text.replace(word, name)
    return text


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ("---", *("---:" for _ in header[1:]))
    return "".join("| " + " | ".join(line) + " |\n" for line in (header, rule, *lines))


def _lines(rows: str) -> list[dict[str, str]]:
    with (FOLDER / "results" / f"{rows}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(rows: str) -> dict[str, StageSummary]:
    """The seeds of each stage in a file of rows: by `stage`, `recipe/stage`, and of a sweep by `stage value...`."""
    found: dict[str, list[Row]] = {}
    for line in _lines(rows):
        row = _row(line)
        for name in {row.stage, f"{line['recipe']}/{row.stage}", " ".join([row.stage, *_point(line)])}:
            found.setdefault(name, []).append(row)
    return {name: StageSummary(name, rows[0].uses, tuple(rows)) for name, rows in found.items()}


def _point(line: Mapping[str, str]) -> list[str]:
    """The values that a sweep has there; its keys stand between those of the stage and of the seed."""
    names = list(line)
    return [line[name] for name in names[len(FIRST) : names.index("seed")] if line[name]]


def _row(line: Mapping[str, str]) -> Row:
    number = {
        name: float(line[name]) if line[name] else None for name in ("seconds", "latency_ms", "validation", *ACCURACIES)
    }
    return Row(
        stage=line["stage"],
        uses=line["uses"],
        seed=int(line["seed"]),
        parameters=int(line["parameters"]) if line["parameters"] else None,
        multiply_adds=int(line["multiply_adds"]) if line["multiply_adds"] else None,
        accuracy={kind: number[kind] for kind in ACCURACIES},
        seconds=number["seconds"],
        latency_ms=number["latency_ms"],
        metrics={
            "validation": number["validation"],
            "taught_by_accuracy": float(line["taught_by_accuracy"]) if line.get("taught_by_accuracy") else None,
            "over_time": json.loads(line.get("over_time") or "[]"),
        },
    )


def main() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = rendered(text)
        if new != text:
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
