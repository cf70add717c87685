from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from nasdistill.artifacts import publish
from nasdistill.report import tables, words
from nasdistill.report.records import Row
from nasdistill.report.summaries import Difference, by_stage

SIZE = {"bytes": 41_792}
ROWS = [
    Row("alone", "train", 0, 50_000, 6_100_000, {"last": 95.0, "best": 97.0, "selected": 96.0}, 60.0, 1.25, SIZE),
    Row("alone", "train", 1, 50_000, 6_100_000, {"last": 96.0, "best": 98.0, "selected": 97.0}, 62.0, 1.35),
    Row("a | b <i>\n`x`", "export", 0),
]


def test_results_over_two_seeds() -> None:
    table = tables.results(by_stage(ROWS))
    lines = [dict(zip(table.header, map(str, row), strict=True)) for row in table.rows]
    assert lines[0] == {
        "stage": "alone",
        "accuracy %, last": "95.50 ± 0.71 (95.00, 96.00)",
        "accuracy %, best": "97.50 ± 0.71 (97.00, 98.00)",
        "accuracy %, selected": "96.50 ± 0.71 (96.00, 97.00)",
        "parameters": "50,000",
        "size": "41.8 kB",
        "multiply-adds": "6.1 M",
        "latency ms": "1.30 ± 0.07 (in torch)",
        "time": "1 min 1 s",
    }
    assert set(lines[1].values()) == {"a | b <i>\n`x`", "\N{EN DASH}"}


def test_scores_over_classes_are_shown_where_they_say_something() -> None:
    def shown(*metrics: dict[str, float]) -> list[dict[str, str]]:
        rows = [Row(f"s{number}", "train", 0, metrics=found) for number, found in enumerate(metrics)]
        table = tables.results(by_stage(rows))
        cells = [dict(zip(table.header, map(str, row), strict=True)) for row in table.rows]
        return [{name: row[name] for name in ("balanced accuracy %", "AUC") if name in row} for row in cells]

    level = {"balanced_accuracy": 90.123, "imbalance": 1.9}
    assert shown(level, {}) == [{}, {}]
    assert shown(level, {**level, "imbalance": 2.0}, {}) == [
        {"balanced accuracy %": "90.12"},
        {"balanced accuracy %": "90.12"},
        {"balanced accuracy %": "\N{EN DASH}"},
    ]
    assert shown({**level, "auc": 0.98765}, level) == [
        {"balanced accuracy %": "90.12", "AUC": "0.9877"},
        {"balanced accuracy %": "90.12", "AUC": "\N{EN DASH}"},
    ]


def test_the_kept_weights_scores_on_test_images_have_columns_where_there_are_any() -> None:
    def shown(*rows: Row) -> list[dict[str, str]]:
        table = tables.results(by_stage(rows))
        cells = [dict(zip(table.header, map(str, row), strict=True)) for row in table.rows]
        return [
            {name: row[name] for name in ("misclassified", "top-5 %", "loss, nats") if name in row} for row in cells
        ]

    accuracy = {"selected": 98.4}
    found = [{"misclassified": 157, "top5": 99.9, "loss": 0.05}, {"misclassified": 164, "top5": 99.8, "loss": 0.06}]
    two = [Row("a", "train", seed, accuracy=accuracy, metrics=each) for seed, each in enumerate(found)]
    earlier = Row("b", "train", 0, accuracy=accuracy, metrics={"top5": 99.5, "loss": 0.2})
    other_images = Row("c", "evaluate", 0, metrics={**found[0], "accuracy": {"last": 97.0}, "part": "validation"})
    dash = "\N{EN DASH}"
    assert shown(*two, earlier, other_images) == [
        {
            "misclassified": "160 ± 5 (157, 164)",
            "top-5 %": "99.85 ± 0.07 (99.90, 99.80)",
            "loss, nats": "0.0550 ± 0.0071 (0.0500, 0.0600)",
        },
        {"misclassified": dash, "top-5 %": "99.50", "loss, nats": "0.2000"},
        {"misclassified": dash, "top-5 %": dash, "loss, nats": dash},
    ]
    few_classes = Row("d", "train", 0, accuracy=accuracy, metrics={"misclassified": 3, "top5": 100.0, "loss": 0.1})
    assert shown(few_classes) == [{"misclassified": "3", "loss, nats": "0.1000"}]
    assert shown(other_images) == [{}]


def scored(folder: Path, stage: str, score: float, seed: int, **told: str) -> Row:
    """The row of a stage that evaluated."""
    (folder / f"{stage}-{seed}").mkdir()
    metrics = {"accuracy": dict.fromkeys(("last", "best", "selected"), score), **told}
    parts: dict[str, Any] = {"config": {}, "inputs": {}, "cost": {}, "provenance": {}, "metrics": metrics}
    place = folder / f"{stage}-{seed}-published"
    kind = {"kind": "metrics", "stage": stage, "uses": "evaluate", "key": "0", "seed": seed}
    return Row.of(publish(folder / f"{stage}-{seed}", place, **kind, **parts), cached=False)


def test_accuracy_on_other_images_is_no_test_accuracy_and_is_not_compared_with_one(tmp_path: Path) -> None:
    rows = [scored(tmp_path, "tested", 90.0 + seed, seed, part="test") for seed in (0, 1)]
    rows += [scored(tmp_path, "checked", 94.0 + seed, seed, part="validation") for seed in (0, 1)]
    tested, checked = by_stage(rows)
    table = tables.results([tested, checked])
    lines = [dict(zip(table.header, map(str, row), strict=True)) for row in table.rows]
    assert [line["accuracy %, selected"] for line in lines] == ["90.50 ± 0.71 (90.00, 91.00)", "\N{EN DASH}"]
    assert [line["accuracy %, validation images"] for line in lines] == [
        "\N{EN DASH}",
        "94.50 ± 0.71 (94.00, 95.00)",
    ]
    assert "accuracy %, train images" not in table.header
    assert checked.over(tested) is None
    assert words.gain(checked, [tested]) == "94.50 ± 0.71 % of the validation images."


def test_scores_over_classes_have_each_seeds_value() -> None:
    rows = [
        Row("a", "train", seed, metrics={"balanced_accuracy": 90.0 + seed, "auc": 0.9 + seed / 100}) for seed in (0, 1)
    ]
    table = tables.results(by_stage(rows))
    assert table.header[4:6] == ("balanced accuracy %", "AUC")
    assert list(map(str, table.rows[0][4:6])) == ["90.50 ± 0.71 (90.00, 91.00)", "0.9050 ± 0.0071 (0.9000, 0.9100)"]


def test_markdown_is_a_table_and_names_are_inert() -> None:
    lines = tables.markdown(tables.results(by_stage(ROWS))).splitlines()
    assert len(lines) == 4
    assert lines[1] == "| --- |" + " ---: |" * 8
    assert lines[3].startswith(r"| a \| b &lt;i&gt; \`x\` |")


def test_csv_reads_back() -> None:
    table = tables.results(by_stage(ROWS))
    back = list(csv.reader(io.StringIO(tables.to_csv(table))))
    assert back == [list(table.header), *([str(cell) for cell in row] for row in table.rows)]


def test_differences_say_whether_they_leave_out_zero() -> None:
    table = tables.differences(
        [
            ("b", "a", Difference(0.8, 0.3, 1.3, 3)),
            ("c", "a", Difference(0.8, -0.3, 1.9, 3)),
            ("d", "a", Difference(-0.8, None, None, 1, "last")),
        ]
    )
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["b", "a", "selected", "+0.80", "+0.30 to +1.30", "3", "yes"],
        ["c", "a", "selected", "+0.80", "-0.30 to +1.90", "3", "no"],
        ["d", "a", "last", "-0.80", "\N{EN DASH}", "1", "\N{EN DASH}"],
    ]


def test_plain_data_have_a_column_per_key() -> None:
    table = tables.plain([{"cell": 3, "ratio": 1.23456}, {"cell": 12_000, "new_widths": [8, 16], "done": True}])
    assert table.header == ("cell", "ratio", "new widths", "done")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["3", "1.235", "\N{EN DASH}", "\N{EN DASH}"],
        ["12,000", "\N{EN DASH}", "8 16", "yes"],
    ]
