"""Which stages are drawn beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from nasdistill.report.courses import beside_each_other
from nasdistill.report.records import Row
from nasdistill.report.summaries import by_stage


def test_curves_of_many_stages_are_shared_out_by_points_or_by_stages() -> None:
    def rows(names: Sequence[str], points: int) -> list[Row]:
        return [Row(name, "train", 0, point={"a": at, "b": "x"}) for name in names for at in range(points)]

    few = by_stage(rows(["belief", "fast"], 4))
    assert beside_each_other(few) == {"": {stage.stage: stage for stage in few}}
    methods = beside_each_other(by_stage(rows(["belief", "fast"], 5)))
    assert {of: list(named) for of, named in methods.items()} == {f"{at} x": ["belief", "fast"] for at in range(5)}
    students = beside_each_other(by_stage([Row("alone", "train", 0), *rows(["student"], 9)]))
    assert {of: len(named) for of, named in students.items()} == {"": 1, "student": 9}
    assert list(students["student"])[:2] == ["0 x", "1 x"]
