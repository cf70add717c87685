"""The section of transition curves, within a page."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdistill.report.page import write_report
from nasdistill.report.parts import Part
from nasdistill.report.records import RunRecord
from nasdistill.report.sections import sections
from nasdistill.report.summaries import by_stage
from nasdistill.storage import write_json
from tests.report.fakes import fake_run, resealed

HOSTILE = "<script>alert(1)</script>"


def curves(shift: float = 0.0, **more: Any) -> dict[str, Any]:
    student = [0.001, 0.4, 0.95]
    teacher = [0.002, 0.1 + shift, 0.3 + shift]
    return {"paths": 4, "student": student, "teacher": teacher, "error": [0.001, 0.3 - shift, 0.65 - shift], **more}


def compared(out: Path, seeds: tuple[int, ...] = (0,), **more: Any) -> RunRecord:
    """A run whose last stage compared two networks."""
    record = fake_run(out, seeds)
    rows = []
    for row in record.rows:
        if row.uses == "distill":
            assert row.folder is not None
            shift = 0.1 * row.seed
            classes = [curves(shift, label="cat"), curves(label=HOSTILE)]
            write_json(row.folder / "transition.json", curves(shift, classes=classes, **more))
            resealed(row.folder)
            figures = {"agreement": 90.0, "kl": 0.25, "student_accuracy": 88.5, "teacher_accuracy": 94.0, "images": 4}
            row = replace(row, metrics={"mean_transition_error": 0.3 - shift, **figures})
        rows.append(row)
    return replace(record, rows=tuple(rows))


def found_in(record: RunRecord) -> Part | None:
    found = [each for each in sections(by_stage(record.rows)) if each.title == "Across decision boundaries"]
    return found[0] if found else None


def test_curves_and_figures_of_a_comparison(tmp_path: Path) -> None:
    section = found_in(compared(tmp_path))
    assert section is not None
    whole, by_class = section.groups
    (picture,) = whole.pictures
    assert ">teacher<" in picture
    assert ">student<" in picture
    assert ">0.4<" in picture, "the scale goes linearly from 0 to 1"
    assert ">1.0<" in picture
    assert whole.table is not None
    figures = dict(zip(whole.table.header, map(str, whole.table.rows[0]), strict=True))
    assert figures == {
        "stage": "student",
        "mean transition error": "0.3000",
        "agreement, %": "90.00",
        "KL(teacher, student), nats": "0.2500",
        "student's accuracy, %": "88.50",
        "teacher's accuracy, %": "94.00",
        "images walked from": "4",
    }
    assert by_class.folded
    assert by_class.table is not None
    assert [str(cell) for cell in by_class.table.rows[0]] == ["cat", "0.3170", "0.9500", "0.3000"]


def test_seeds_are_summarised(tmp_path: Path) -> None:
    section = found_in(compared(tmp_path, seeds=(0, 1, 2)))
    assert section is not None
    whole, by_class = section.groups
    assert whole.table is not None
    assert str(whole.table.rows[0][1]) == "0.2000 ± 0.1000 (0.3000, 0.2000, 0.1000)"
    assert by_class.table is not None
    assert str(by_class.table.rows[0][-1]) == "0.4000 ± 0.1000 (0.3000, 0.4000, 0.5000)"


def test_names_of_classes_are_text(tmp_path: Path) -> None:
    write_report(compared(tmp_path), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Across decision boundaries" in page
    assert "a mean transition error of 0.3000 between two networks; " in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page


def test_without_a_comparison_there_is_no_section(one_seed: tuple[RunRecord, Path]) -> None:
    assert found_in(one_seed[0]) is None


def test_curves_of_unequal_length_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = compared(tmp_path)
    folder = record.rows[-1].folder
    assert folder is not None
    write_json(folder / "transition.json", {**curves(classes=[]), "error": [0.1]})
    resealed(folder)
    with caplog.at_level(logging.WARNING):
        part = found_in(record)
    assert part is not None
    assert part.groups == ()
    assert re.search(r"transition\.json cannot be shown: .* of one length at the top\.$", *part.problems)
    assert re.search(r"transition\.json cannot be shown: .* of one length at the top", caplog.text)
