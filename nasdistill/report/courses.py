"""Test accuracy of many stages beside each other, in pictures of few enough that each has a look of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from nasdistill.report import plots
from nasdistill.report.points import values_in_words
from nasdistill.report.summaries import StageSummary


def pictures(
    stages: Sequence[StageSummary], curves: Mapping[str, Sequence[plots.Curve]], title: str, x: str
) -> Iterator[str]:
    """Lines over one axis, `curves` by the stages' names with one for each seed."""
    for of, named in beside_each_other(stages).items():
        for some in plots.shared_out({name: curves[stage.stage] for name, stage in named.items()}):
            yield plots.lines(some, of or title, x, "test accuracy, %")


def beside_each_other(stages: Sequence[StageSummary]) -> dict[str, dict[str, StageSummary]]:
    """Stages whose curves belong in one picture, by what these are of, which is nothing where all go together.

    Where they are more than colours, those at one point of a sweep, by their stages; or the points of one stage, where
    no other is there.
    """
    if len(stages) <= len(plots.SERIES):
        return {"": {stage.stage: stage for stage in stages}}
    points = {stage.stage: values_in_words(stage.rows[0].point) for stage in stages}
    at = Counter(points.values())
    found: dict[str, dict[str, StageSummary]] = defaultdict(dict)
    for stage in stages:
        point, name = points[stage.stage], stage.rows[0].stage
        of, by = (name, point) if point and at[point] == 1 else (point, name)
        found[of][by] = stage
    return dict(found)
