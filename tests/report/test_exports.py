"""Where a network was exported, size and latency are those of the file, in the terminal and on the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nasdistill.report import exports, tables
from nasdistill.report.page import write_report
from nasdistill.report.records import Row
from nasdistill.report.summaries import by_stage
from nasdistill.report.verdict import verdict
from tests.report.fakes import fake_run

FILES = {
    "onnx": {"file": "network.onnx", "bytes": 508_000, "accuracy": 91.2, "agreement": 100.0},
    "half": {"file": "network.half", "bytes": 130_000},
}
STUDENT = Row("student", "train", 0, 60_000, accuracy={"selected": 91.2}, latency_ms=11.5, metrics={"bytes": 261_000},
              content="weights")  # fmt: skip
EXPORT = Row("export", "export", 0, 60_000, accuracy={"selected": 91.2}, latency_ms=0.98, content="files",
             metrics={"bytes": 508_000, "exports": FILES}, inputs={"network": "weights"}, folder=Path("out/export-1"),
             export_latency_ms={"onnx": 0.98})  # fmt: skip
OTHER = dataclasses.replace(STUDENT, stage="other", content="others", latency_ms=3.0)


def test_size_and_latency_are_those_of_the_file() -> None:
    table = tables.results(by_stage([STUDENT, OTHER, EXPORT]))
    told = [dict(zip(table.header, map(str, row), strict=True)) for row in table.rows]
    assert [(each["size"], each["latency ms"]) for each in told] == [
        ("508 kB (as onnx)", "0.98 (as onnx)"),
        ("261 kB", "3.00 (in torch)"),
        ("508 kB (as onnx)", "0.98 (as onnx)"),
    ]
    student, export = by_stage([STUDENT, EXPORT])
    figures = verdict([student, export], student).figures
    assert ("0.98 ms", "for one image as onnx") in figures
    assert ("60,000", "parameters, 508 kB as onnx") in figures


def test_every_file_has_a_line_and_the_last_onnx_file_a_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    table = exports.table(by_stage([STUDENT, EXPORT]))
    assert table is not None
    dash = "\N{EN DASH}"
    assert [tuple(map(str, row)) for row in table.rows] == [
        ("export", "network.onnx", "onnx", "508 kB", "91.20", "100.00", "0.98"),
        ("export", "network.half", "half", "130 kB", dash, dash, dash),
    ]
    student, export = by_stage([STUDENT, EXPORT])
    assert exports.table([student]) is None
    assert exports.how_to_ask([student, export], student) == "nasdistill predict out/export-1/network.onnx PHOTOS"
    assert exports.how_to_ask([student], student) is None
    (other,) = by_stage([dataclasses.replace(OTHER, folder=Path("out/other-1"))])
    asked = exports.how_to_ask([student, export], other)
    assert asked == "nasdistill predict out/other-1 PHOTOS", "not the file of another network"
    record = fake_run(tmp_path)
    write_report(dataclasses.replace(record, rows=(*record.rows, EXPORT)), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Exported files" in page
    assert "nasdistill predict out/export-1/network.onnx PHOTOS" in page
