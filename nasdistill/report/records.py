"""What a run leaves for its report: plain data, so that a report can be written again years later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasdistill.artifacts import Artifact
from nasdistill.report.points import in_words

ACCURACIES = ("last", "best", "selected")
"""Test accuracy, in percent, of the last weights, of the best weights seen, and of those that validation selected."""


@dataclass(frozen=True)
class Row:
    """One stage with one seed, in a sweep at one point.

    Attributes:
        stage: its name in the recipe.
        uses: the registered name of the stage.
        accuracy: `last`, `best` and `selected`, in percent on the test set; None where the stage has none, as one that
            evaluates on other images.
        seconds: wall time of the work itself, also where it was done by an earlier run.
        latency_ms: of one image on the run's machine, in milliseconds: in torch, or of an export in the runtime of its
            first format.
        metrics: all that the stage measured.
        folder: the artifact.
        cached: whether an earlier run had done the work.
        content: a hash of what the artifact holds.
        inputs: field of the stage's config to the content of the artifact that it read.
        point: the swept keys that reach this stage, with their values here; nothing where nothing is swept.
        export_latency_ms: of each format of an export.
    """

    stage: str
    uses: str
    seed: int
    parameters: int | None = None
    multiply_adds: int | None = None
    accuracy: Mapping[str, float | None] | None = None
    seconds: float | None = None
    latency_ms: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    cached: bool = False
    content: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    point: Mapping[str, Any] = field(default_factory=dict)
    export_latency_ms: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The stage's name, with its point if it has one."""
        return f"{self.stage}, {in_words(self.point)}" if self.point else self.stage

    @property
    def bytes(self) -> int | None:
        """Of the weights as they are used, one bit for each binary weight; or of an export's first file."""
        return self.metrics.get("bytes")

    @property
    def exports(self) -> Mapping[str, Mapping[str, Any]]:
        """What a stage that exports tells of each file, by format."""
        told: Mapping[str, Mapping[str, Any]] = self.metrics.get("exports", {})
        return told

    @property
    def stopped(self) -> str | None:
        """Why the stage ended before its time, if it did."""
        return self.metrics.get("stopped")

    @property
    def collapses(self) -> list[int]:
        """The pseudo-batches after which a transfer without data was found to answer nearly one class for all."""
        found = self.metrics.get("collapses")
        return found if isinstance(found, list) else []

    @property
    def over_time(self) -> list[tuple[float, float]]:
        """Test accuracy, in percent, after so many seconds of a transfer without data."""
        return [(seconds, accuracy) for seconds, accuracy in self.metrics.get("over_time", [])]

    @classmethod
    def of(cls, artifact: Artifact, cached: bool) -> Row:
        """The row of a finished artifact."""
        manifest = artifact.manifest
        metrics = manifest.metrics
        return cls(
            stage=manifest.stage,
            uses=manifest.uses,
            seed=manifest.seed,
            parameters=metrics.get("parameters"),
            multiply_adds=metrics.get("multiply_adds"),
            accuracy=metrics.get("accuracy") if metrics.get("part", "test") == "test" else None,
            seconds=manifest.cost.get("seconds"),
            latency_ms=manifest.cost.get("latency_ms"),
            export_latency_ms=manifest.cost.get("export_latency_ms", {}),
            metrics=metrics,
            folder=artifact.folder,
            cached=cached,
            content=artifact.content,
            inputs=manifest.inputs,
        )


@dataclass(frozen=True)
class LeftOut:
    """A stage that was not run for a reason that showed on the way, with one seed, in a sweep at one point."""

    stage: str
    seed: int
    point: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class RunRecord:
    """One run of a recipe.

    Attributes:
        name: of the recipe.
        recipe: the resolved recipe, as YAML text; in a sweep that of its first point.
        command: what to type to do it again.
        rows: every stage with every seed, in the order of work.
        versions: of this package, Python and the libraries.
        device: the machine in words, e.g. `cpu (Intel Xeon, 2 cores)`.
        started: when, as ISO 8601 with a time zone.
        seconds: wall time of this run.
        sweep: the swept keys, each with its values.
        published: test accuracy in percent that others report, by stage, and then by the values of the swept keys that
            reach it.
        left_out: the stages that were not run.
    """

    name: str
    recipe: str
    command: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    versions: Mapping[str, str]
    device: str
    started: str
    seconds: float
    sweep: Mapping[str, list[Any]] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
