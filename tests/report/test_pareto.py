"""Accuracy against cost: the front, and which pictures a run has."""

from __future__ import annotations

import re

from nasdistill.report.pareto import pictures
from nasdistill.report.plots import pareto_front
from nasdistill.report.records import Row
from nasdistill.report.summaries import by_stage


def row(stage: str, accuracy: float | None, **more: object) -> Row:
    found = None if accuracy is None else {"last": accuracy, "best": accuracy, "selected": accuracy}
    return Row(stage, "train", 0, accuracy=found, **more)  # type: ignore[arg-type]


def titles(*rows: Row) -> list[str]:
    return [re.findall(r"Accuracy and \w+", picture)[0] for picture in pictures(by_stage(rows))]


def test_the_front_has_what_nothing_beats_in_both() -> None:
    places = {"a": (1.0, 90.0), "dear": (2.0, 80.0), "b": (2.0, 95.0), "equal": (3.0, 95.0), "c": (4.0, 96.0)}
    assert pareto_front(places) == ["a", "b", "c"]


def test_a_run_has_a_picture_for_each_cost_by_which_networks_differ() -> None:
    small = row("small", 90.0, parameters=100, multiply_adds=500, latency_ms=0.1)
    large = row("large", 92.0, parameters=900, multiply_adds=700, latency_ms=0.3)
    assert titles(small) == ["Accuracy and size"]
    assert titles(small, large) == ["Accuracy and size", "Accuracy and computation", "Accuracy and latency"]
    assert "in torch" in pictures(by_stage([small, large]))[-1]
    assert titles(row("search", None, parameters=100)) == []


def test_a_network_keeps_its_colour_where_another_has_no_cost() -> None:
    first = row("first", 90.0, parameters=100)
    rest = [row(name, 91.0, parameters=200, latency_ms=0.1) for name in ("second", "third")]
    size, latency = pictures(by_stage([first, *rest]))
    marks = [re.findall(r"<use [^>]*fill: (#\w+)", picture) for picture in (size, latency)]
    assert marks[1] == [mark for mark in marks[0] if mark != marks[0][0]]


def test_points_of_a_sweep_share_a_look_where_they_are_too_many_for_a_legend() -> None:
    points = [row("student", 90.0 + at, parameters=100 + at, point={"epochs": at}) for at in range(9)]
    (picture,) = pictures(by_stage([row("teacher", 99.0, parameters=900), *points]))
    assert re.findall(r">(teacher|student[^<]*)<", picture) == ["teacher", "student"]
    assert set(re.findall(r"--series-(\d)", picture)) == {"0", "1"}
