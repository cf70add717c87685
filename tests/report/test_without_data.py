"""How soon students without data come near their teacher, as the page shows it."""

from __future__ import annotations

from typing import Any

import pytest

from nasdistill.report.records import Row
from nasdistill.report.sections import Found
from nasdistill.report.sections.pseudo_images import PseudoPayload
from nasdistill.report.sections.without_data import WithoutData
from nasdistill.report.summaries import by_stage

PSEUDO = PseudoPayload(classes=["a"], pictures=[])


def groups(*rows: Row) -> list[Any]:
    found = [Found(stage, {row.seed: PSEUDO for row in stage.rows}) for stage in by_stage(rows)]
    return WithoutData().groups(found)


def row(stage: str, seed: int, *over_time: list[float], teacher: float = 100.0) -> Row:
    metrics = {"over_time": list(over_time), "taught_by_accuracy": teacher}
    return Row(stage, "zero-shot", seed, accuracy={"last": over_time[-1][1]}, metrics=metrics)


def test_times_are_those_of_the_first_evaluation_that_is_near_enough() -> None:
    slow = [
        row("slow", seed, [10, 49], [20 + seed, 60], [30, 80 + 20 * (seed == 2)], teacher=98.0) for seed in range(3)
    ]
    (group,) = groups(*slow, row("fast", 0, [4, 95], [8, 70]))
    assert group.table.header == (
        "stage",
        "teacher's accuracy, %",
        "time to 50 % of it",
        "time to 75 % of it",
        "time to 90 % of it",
    )
    first, second = ([str(cell) for cell in line] for line in group.table.rows)
    assert first == ["slow", "98.00 ± 0.00 (98.00, 98.00, 98.00)", "10 s", "30 s", "30 s (1 of 3 seeds)"]
    assert second == ["fast", "100.00", "4.0 s", "4.0 s", "4.0 s"]


def test_curves_of_seeds_meet_at_their_mean_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("nasdistill.report.plots.lines", lambda series, *_labels: drawn.append(series) or "<svg/>")
    (group,) = groups(row("s", 0, [10, 40], [20, 60]), row("s", 1, [12, 50], [24, 70], [36, 80]))
    assert group.pictures == ("<svg/>",)
    assert drawn == [{"s": [[(11, 40), (22, 60)], [(11, 50), (22, 70)]]}]


def test_what_was_scored_on_nothing_is_left_out() -> None:
    assert groups(Row("s", "zero-shot", 0)) == []
    (group,) = groups(Row("s", "zero-shot", 0), row("t", 0, [1, 30], teacher=99.0))
    assert [str(cell) for cell in group.table.rows[0][2:]] == ["\N{EN DASH}"] * 3
