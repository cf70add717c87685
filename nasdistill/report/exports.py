"""Exported files: what each is worth, and how it is asked."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence

from nasdistill.report import words
from nasdistill.report.summaries import StageSummary, summary_of
from nasdistill.report.tables import Cell, Table
from nasdistill.words import size

HEADER = ("stage", "file", "format", "size", "accuracy %, test", "agreement %", "latency ms, one thread")


def table(stages: Sequence[StageSummary]) -> Table | None:
    """A line for each file: size, and in its own runtime accuracy, agreement with the network, and latency."""
    lines = [line for stage in stages for line in _lines(stage)]
    return Table(HEADER, tuple(lines), words=3) if lines else None


def _lines(stage: StageSummary) -> Iterator[tuple[Cell, ...]]:
    for name in stage.rows[0].exports:
        told = [row.exports[name] for row in stage.rows if name in row.exports]
        bytes, accuracy, agreement = (
            summary_of(each.get(key) for each in told) for key in ("bytes", "accuracy", "agreement")
        )
        latency = summary_of(row.export_latency_ms.get(name) for row in stage.rows)
        yield (
            Cell(stage.stage),
            Cell(told[0]["file"]),
            Cell(name),
            Cell(size(bytes.mean if bytes else None)),
            *map(Cell, map(words.spread, (accuracy, agreement, latency))),
        )


def how_to_ask(stages: Sequence[StageSummary], take: StageSummary | None) -> str | None:
    """The command, to be typed where a run was, by which the network to take classifies photographs.

    Returns:
        that of its first ONNX file, or of its artifact if others are exported; None where none is.
    """
    if take is None or not any(stage.form for stage in stages):
        return None
    row = take.to_ask(stages)
    files = [told["file"] for told in row.exports.values() if told["file"].endswith(".onnx")]
    if row.folder is None:
        return None
    return shlex.join(
        ["nasdistill", "predict", os.path.relpath(row.folder / files[0] if files else row.folder), "PHOTOS"]
    )
