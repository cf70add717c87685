"""The outcome of a sweep: one table for people, one for programs, a grid, and what validation prefers."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdistill.report import sweeps, tables
from nasdistill.report.page import write_comparison, write_report
from nasdistill.report.points import folder_name, in_words, value_in_words
from nasdistill.report.records import Row, RunRecord
from nasdistill.report.results import load_run, save_run
from nasdistill.storage import write_json
from nasdistill.words import NONE
from tests.report.fakes import resealed

MODEL, LOSS = "stages.teacher.model", "stages.student.objectives"
GRID: dict[str, list[Any]] = {MODEL: ["mlp-8", "mlp-16"], LOSS: [["kd"], ["kd", "attention"]]}

# Test accuracy of seed 0 and 1 by point, and the best validation accuracy: they disagree on purpose.
STUDENTS = {
    ("mlp-8", 0): ((90.0, 92.0), (95.0, 95.0)),
    ("mlp-8", 1): ((91.0, 91.0), (93.0, 93.0)),
    ("mlp-16", 0): ((94.0, 96.0), (94.0, 94.0)),
    ("mlp-16", 1): ((89.0, 90.0), (92.0, 92.0)),
}


def row(
    out: Path, stage: str, seed: int, point: Mapping[str, Any], selected: float, validation: float | None = None
) -> Row:
    folder = out / "artifacts" / folder_name(stage, {**point, "seed": seed})
    folder.mkdir(parents=True)
    if validation is not None:
        curve = [[1, 10.0], [2, validation], [3, validation - 1]]
        write_json(folder / "history.json", {"curves": {"validation/accuracy": curve}})
        resealed(folder)
    return Row(
        stage, "train", seed, 100, accuracy={"last": selected - 1, "best": selected + 1, "selected": selected},
        seconds=2.0, metrics={"bytes": 400, "misclassified": 10 + seed, "top5": 99.5, "loss": 0.25}, folder=folder,
        point=dict(point),
    )  # fmt: skip


def fake_sweep(out: Path) -> RunRecord:
    rows = []
    for seed in (0, 1):
        rows += [row(out, "alone", seed, {}, 80.0)]
        rows += [row(out, "teacher", seed, {MODEL: model}, 97.0) for model in GRID[MODEL]]
        rows += [
            row(out, "student", seed, {MODEL: model, LOSS: GRID[LOSS][loss]}, test[seed], validation[seed])
            for (model, loss), (test, validation) in STUDENTS.items()
        ]
    return RunRecord("pairs", "name: pairs", "nasdistill run pairs", (0, 1), tuple(rows), {}, "cpu",
                     "2026-11-21T01:20:00+00:00", 60.0, GRID)  # fmt: skip


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return fake_sweep(tmp_path)


def test_points_in_words() -> None:
    assert value_in_words(["kd", {"name": "attention", "beta": 1e3}]) == "[kd, {name: attention, beta: 1000.0}]"
    assert value_in_words([True, None, 1]) == "[true, null, 1]"
    assert in_words({"stages.s.epochs": 1, "data.limit": 5}) == "s.epochs=1, data.limit=5"
    assert folder_name("s", {}) == "s"
    assert folder_name("s", {"stages.s.lr": 0.1}) == "s-s.lr=0.1"


def test_names_of_folders_that_would_be_cut_to_the_same_stay_apart() -> None:
    long = ["x" * 100 + "a", "x" * 100 + "b", "a/b", "a:b"]
    names = {folder_name("s", {"k": value}) for value in long}
    assert len(names) == 4
    assert all(len(name) < 100 and "/" not in name and ":" not in name for name in names)


def test_one_line_per_stage_and_point(record: RunRecord) -> None:
    table = sweeps.outcome(record)
    assert table.header[:4] == (MODEL, LOSS, "stage", "validation")
    assert [tuple(cell.text for cell in line[:3]) for line in table.rows] == [
        ("all", "all", "alone"),
        ("mlp-8", "all", "teacher"),
        ("mlp-16", "all", "teacher"),
        ("mlp-8", "[kd]", "student"),
        ("mlp-8", "[kd, attention]", "student"),
        ("mlp-16", "[kd]", "student"),
        ("mlp-16", "[kd, attention]", "student"),
    ]
    student = table.rows[3]
    assert str(student[4]) == f"91.00 ± {statistics.stdev([90, 92]):.2f} (90.00, 92.00)"
    scores = dict(zip(table.header, map(str, student), strict=True))
    assert [scores[name] for name in ("misclassified", "top-5 %", "loss, nats")] == [
        "10 ± 1 (10, 11)",
        "99.50 ± 0.00 (99.50, 99.50)",
        "0.2500 ± 0.0000 (0.2500, 0.2500)",
    ]


def test_validation_marks_the_best_and_not_the_test_set(record: RunRecord) -> None:
    """The first student has the best validation accuracy, the third the best test accuracy."""
    marked = [line.point for line in sweeps.lines(record) if line.best]
    assert marked == [{MODEL: "mlp-8", LOSS: ["kd"]}]
    take = sweeps.to_take(record)
    assert take is not None
    assert take.rows[0].point == marked[0]


def test_the_score_that_selects_marks_where_it_is_told(record: RunRecord) -> None:
    """The curve of the first student is the highest; by the score that its stage told, the third one is."""
    scores = {"mlp-8": 70.0, "mlp-16": 71.0}
    rows = tuple(
        replace(row, metrics={**row.metrics, "validation": {"score": scores[row.point[MODEL]], "loss": 1.0}})
        if row.point.get(LOSS) == ["kd"]
        else row
        for row in record.rows
        if row.point.get(LOSS) != ["kd", "attention"]
    )
    told = replace(record, rows=rows, sweep={MODEL: GRID[MODEL]})
    assert [line.point[MODEL] for line in sweeps.lines(told) if line.best] == ["mlp-16"]
    students = [row for row in sweeps.outcome(told).rows if row[1].text == "student"]
    assert [row[-1].text for row in students] == ["70.00 ± 0.00", "71.00 ± 0.00"]

    for row in rows[-1:]:  # of the third one, and with one seed of another kind no two can be compared
        row.metrics["validation"]["of"] = "balanced accuracy"
    assert not any(line.best for line in sweeps.lines(told))


def test_nothing_is_marked_where_a_validation_accuracy_is_missing(record: RunRecord) -> None:
    student = next(row for row in record.rows if row.stage == "student" and row.seed == 1)
    assert student.folder is not None
    (student.folder / "history.json").unlink()
    assert not any(line.best for line in sweeps.lines(record))
    assert "best" not in sweeps.part(record).lead


def test_nothing_is_marked_where_points_differ_in_their_data(record: RunRecord) -> None:
    renamed = tuple(
        replace(row, point={key.replace(MODEL, "data.limit"): value for key, value in row.point.items()})
        for row in record.rows
    )
    other = replace(record, rows=renamed, sweep={"data.limit": GRID[MODEL], LOSS: GRID[LOSS]})
    assert not any(line.best for line in sweeps.lines(other))
    assert sweeps.to_take(other) is None, "nor is one taken by scores on other images"


def test_two_keys_make_a_grid(record: RunRecord) -> None:
    group = sweeps.grid(record)
    assert group is not None
    table = group.table
    assert table is not None
    assert table.header == (f"{MODEL} / {LOSS}", "[kd]", "[kd, attention]")
    assert [[cell.text for cell in line] for line in table.rows] == [
        ["mlp-8", "91.00 ± 1.41 (best)", "91.00 ± 0.00"],
        ["mlp-16", "95.00 ± 1.41", "89.50 ± 0.71"],
    ]
    assert sweeps.grid(replace(record, sweep={MODEL: GRID[MODEL]})) is None


def test_what_others_report_stands_beneath_and_beside(record: RunRecord) -> None:
    reported = {"alone": 80, "teacher": {"mlp-8": 90.5}, "student": {"mlp-16": {"[kd]": 96.25}}}
    told = replace(record, published=reported)
    group = sweeps.grid(told)
    assert group is not None
    assert group.table is not None
    assert [[cell.text for cell in line] for line in group.table.rows][1:] == [
        ["mlp-16", "95.00 ± 1.41", "89.50 ± 0.71"],
        ["published", "96.25", NONE],
    ]
    table = sweeps.outcome(told)
    at = table.header.index("published %")
    assert [line[at].text for line in table.rows] == ["80.00", "90.50", NONE, NONE, NONE, "96.25", NONE]
    assert "published %" not in sweeps.outcome(record).header


def test_a_grid_of_networks_that_select_nothing_shows_their_last_accuracy(record: RunRecord) -> None:
    rows = tuple(
        replace(row, accuracy={"last": 50.0, "best": 60.0}) if row.stage == "student" else row for row in record.rows
    )
    group = sweeps.part(replace(record, rows=rows)).groups[0]
    assert group.title == "Last test accuracy of student, %"
    assert group.table is not None
    assert group.table.rows[1][1].text == "50.00 ± 0.00"


def test_a_stage_behind_them_that_no_key_reaches_is_not_the_outcome(record: RunRecord) -> None:
    moved = replace(record, rows=tuple(sorted(record.rows, key=lambda row: row.stage == "alone")))
    assert sweeps.grid(moved) == sweeps.grid(record)
    assert [line.point for line in sweeps.lines(moved) if line.best] == [
        line.point for line in sweeps.lines(record) if line.best
    ]


def test_csv_holds_the_numbers_as_they_are(record: RunRecord) -> None:
    read = list(csv.DictReader(io.StringIO(tables.to_csv(sweeps.numbers(record)))))
    assert len(read) == 7
    alone, student = read[0], read[3]
    assert (alone[MODEL], alone["best"], alone["validation_n"], alone["validation_mean"]) == ("", "0", "0", "")
    assert (student["stage"], student["uses"], student[LOSS], student["best"]) == ("student", "train", "[kd]", "1")
    assert float(student["selected_mean"]) == 91.0
    assert float(student["selected_deviation"]) == pytest.approx(2**0.5, abs=1e-12)
    assert [student[f"selected_{part}"] for part in ("n", "seed_0", "seed_1")] == ["2", "90.0", "92.0"]
    assert (float(student["validation_mean"]), float(student["bytes"]), float(student["seconds"])) == (95.0, 400, 2.0)
    assert [float(student[score]) for score in ("misclassified", "top5", "loss")] == [10.5, 99.5, 0.25]


def test_files_are_written_for_a_sweep_and_removed_without_one(record: RunRecord, tmp_path: Path) -> None:
    sweeps.write_sweep(record, tmp_path)
    text = (tmp_path / "sweep.md").read_text()
    assert "Selected test accuracy of student, %:\n\n| stages.teacher.model / stages.student.objectives |" in text
    assert text.count("\n| ") == 2 + 2 + 2 + 7
    assert len((tmp_path / "sweep.csv").read_text().splitlines()) == 8
    sweeps.write_sweep(replace(record, sweep={}), tmp_path)
    assert not list(tmp_path.glob("sweep.*"))


def test_a_sweep_comes_back_and_its_page_can_be_written_again(record: RunRecord, tmp_path: Path) -> None:
    save_run(record, tmp_path)
    again = load_run(tmp_path)
    assert again.sweep == record.sweep
    assert [row.point for row in again.rows] == [row.point for row in record.rows]
    write_report(again, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<h2>The sweep</h2>" in page
    assert "student, teacher.model=mlp-16, student.objectives=[kd, attention]" in page
    write_comparison([again, again], tmp_path / "comparison.html")
    assert "pairs (2): teacher, teacher.model=mlp-16" in (tmp_path / "comparison.html").read_text()
