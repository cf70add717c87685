"""The section of attention maps, within a page."""

from __future__ import annotations

import copy
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdistill.report.records import RunRecord
from nasdistill.report.sections import Section, sections
from nasdistill.report.summaries import by_stage
from nasdistill.storage import write_json
from tests.report.fakes import fake_run
from tests.report.test_maps import HOSTILE, ONE_TEACHER
from tests.report.test_page import assert_asks_for_nothing, page_of


def run_with_maps(out: Path, seeds: tuple[int, ...] = (0,), content: Any = ONE_TEACHER) -> RunRecord:
    record = fake_run(out, seeds)
    for row in record.rows:
        if row.uses == "distill":
            assert row.folder is not None
            written = copy.deepcopy(content)
            written["pairs"][0]["similarity"] += 0.01 * row.seed
            write_json(row.folder / "attention.json", written)
    return record


def looks(record: RunRecord) -> Section | None:
    found = [section for section in sections(by_stage(record.rows)) if section.title == "Where they look"]
    return found[0] if found else None


def test_a_stage_shows_its_images_and_how_alike_the_maps_are(tmp_path: Path) -> None:
    section = looks(run_with_maps(tmp_path))
    assert section is not None
    stage, table = section.groups
    assert (stage.title, len(stage.pictures), stage.folded) == ("student", 2, False)
    assert table.table is not None
    assert [[str(cell) for cell in row] for row in table.table.rows] == [
        ["student", "a", "b", "0.800"],
        ["student", "c", "d", "0.600"],
    ]


def test_other_seeds_are_folded_and_the_similarity_is_their_mean(tmp_path: Path) -> None:
    section = looks(run_with_maps(tmp_path, seeds=(0, 1, 2)))
    assert section is not None
    *stages, table = section.groups
    assert [(group.title, group.folded) for group in stages] == [
        ("student, seed 0", False), ("student, seed 1", True), ("student, seed 2", True)]  # fmt: skip
    assert table.table is not None
    assert str(table.table.rows[0][-1]) == "0.810 ± 0.010 (0.800, 0.810, 0.820)"


def test_several_teachers_are_told_apart(tmp_path: Path) -> None:
    content = copy.deepcopy(ONE_TEACHER)
    for image in content["images"]:
        image["teachers"].append("bird")
    content["pairs"][1]["number"] = 1
    section = looks(run_with_maps(tmp_path, content=content))
    assert section is not None
    assert section.groups[-1].table is not None
    assert [str(row[2]) for row in section.groups[-1].table.rows] == ["teacher 1: b", "teacher 2: d"]


def test_without_maps_there_is_no_section(one_seed: tuple[RunRecord, Path]) -> None:
    assert looks(one_seed[0]) is None


def test_a_damaged_file_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = run_with_maps(tmp_path, content={**ONE_TEACHER, "images": []})
    with caplog.at_level(logging.WARNING):
        assert looks(record) is None
    assert re.search(r"attention\.json cannot be shown: .* at images; the report leaves it out", caplog.text)


def test_the_page_asks_for_nothing_whatever_the_names(tmp_path: Path) -> None:
    content = copy.deepcopy(ONE_TEACHER)
    content["images"][0] |= {"label": HOSTILE, "student": HOSTILE, "teachers": [HOSTILE]}
    content["pairs"][0]["student"] = HOSTILE
    record = run_with_maps(tmp_path, content=content)
    page = page_of(record, tmp_path)
    assert_asks_for_nothing(page)
    assert "Who attends alike" in page.reads
    assert page.count("image") > 2 * 5
    assert 'says </text><script>alert("1")' in page.reads
    shorter = page_of(replace(record, rows=record.rows[:-1]), tmp_path)
    assert "Where they look" not in shorter.reads
