"""Accuracy against cost: which of a run's networks no other beats in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nasdistill.report.plots import SERIES, scatter
from nasdistill.report.records import Row
from nasdistill.report.summaries import StageSummary

ACCURACY = "test accuracy, %"
LEAD = (
    "Each point is one seed. Up and to the left is better; the line joins the means of the stages that no other beats "
    "in both."
)


def pictures(stages: Sequence[StageSummary]) -> list[str]:
    """Accuracy against size, multiply-adds and latency of every stage that has both; size alone where it is one.

    Latency is that of exported files in their runtimes where any network was exported, else that in torch.
    """
    exported = {stage.stage: stage.exported(stages) for stage in stages if stage.accuracies()}
    in_runtimes = any(exported.values())

    def latency(stage: StageSummary) -> Mapping[int, float | None]:
        found = exported[stage.stage] if in_runtimes else stage
        return {row.seed: row.latency_ms for row in found.rows} if found else {}

    def of(field: Callable[[Row], float | None]) -> Callable[[StageSummary], Mapping[int, float | None]]:
        return lambda stage: {row.seed: field(row) for row in stage.rows}

    runtime = "as exported, in its runtime" if in_runtimes else "in torch"
    asked = (
        ("Accuracy and size", "parameters", of(lambda row: row.parameters)),
        ("Accuracy and computation", "multiply-adds for one image", of(lambda row: row.multiply_adds)),
        ("Accuracy and latency", f"ms for one image, {runtime}", latency),
    )
    trained = [stage for stage in stages if stage.accuracies()]
    kinds = {stage.stage: stage.rows[0].stage for stage in trained} if len(trained) > len(SERIES) else None
    drawn = []
    for title, x, costs in asked:
        points = {stage.stage: _points(stage, costs) for stage in trained}
        if sum(map(bool, points.values())) > (title != asked[0][0]):
            drawn.append(scatter(points, title, x, ACCURACY, front=True, kinds=kinds))
    return drawn


def _points(
    stage: StageSummary, costs: Callable[[StageSummary], Mapping[int, float | None]]
) -> list[tuple[float, float]]:
    """(cost, accuracy) of each seed that has both."""
    accuracies = stage.accuracies()
    found = costs(stage) if accuracies else {}
    return [(cost, accuracies[seed]) for seed, cost in found.items() if cost is not None and seed in accuracies]
