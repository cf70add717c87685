"""The sections of attention maps and of pseudo-images, within a page."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdistill.report.parts import Group, Part
from nasdistill.report.payloads import HistoryPayload
from nasdistill.report.records import RunRecord
from nasdistill.report.sections import SECTIONS, Found, Section, sections
from nasdistill.report.summaries import by_stage
from nasdistill.storage import write_json
from tests.report.fakes import fake_run, resealed
from tests.report.test_maps import HOSTILE, ONE_TEACHER
from tests.report.test_page import assert_asks_for_nothing, page_of
from tests.report.test_pseudo import CONTENT


def run_with_maps(out: Path, seeds: tuple[int, ...] = (0,), content: Any = ONE_TEACHER) -> RunRecord:
    record = fake_run(out, seeds)
    for row in record.rows:
        if row.uses == "distill":
            assert row.folder is not None
            written = copy.deepcopy(content)
            written["pairs"][0]["similarity"] += 0.01 * row.seed
            write_json(row.folder / "attention.json", written)
            resealed(row.folder)
    return record


def looks(record: RunRecord) -> Part | None:
    found = [section for section in sections(by_stage(record.rows)) if section.title == "Attention maps"]
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
        part = looks(record)
    assert part is not None
    assert part.groups == ()
    assert re.search(r"attention\.json cannot be shown: .* at images\.$", *part.problems)
    assert re.search(r"attention\.json cannot be shown: .* at images; the report leaves it out", caplog.text)


def test_the_page_asks_for_nothing_whatever_the_names(tmp_path: Path) -> None:
    content = copy.deepcopy(ONE_TEACHER)
    content["images"][0] |= {"label": HOSTILE, "student": HOSTILE, "teachers": [HOSTILE]}
    content["pairs"][0]["student"] = HOSTILE
    record = run_with_maps(tmp_path, content=content)
    page = page_of(record, tmp_path)
    assert_asks_for_nothing(page)
    assert "Similarity of attention maps" in page.reads
    assert page.count("image") > 2 * 5
    assert 'predicts </text><script>alert("1")' in page.reads
    shorter = page_of(replace(record, rows=record.rows[:-1]), tmp_path)
    assert "Attention maps" not in shorter.reads


def run_without_data(out: Path, seeds: tuple[int, ...] = (0,), content: Any = CONTENT) -> RunRecord:
    """Its student was taught on pseudo-images: nothing selected, and 200 pseudo-batches instead of epochs."""
    record = fake_run(out, seeds)
    rows = []
    for row in record.rows:
        if row.uses == "distill":
            assert row.folder is not None
            assert row.accuracy is not None
            names = ("generator/adversarial", "student/divergence", "answers/agreement", "test/accuracy")
            curves = {name: [[50, 1.0], [200, 2.0]] for name in names}
            write_json(row.folder / "history.json", {"x": "pseudo-batches", "curves": curves})
            write_json(row.folder / "pseudo.json", content)
            resealed(row.folder)
            accuracy = {"last": row.accuracy["last"], "best": row.accuracy["best"]}
            row = replace(row, uses="zero-shot", accuracy=accuracy, metrics={**row.metrics, "collapses": [60]})
        rows.append(row)
    return replace(record, rows=tuple(rows))


def test_a_stage_shows_what_was_made_up(tmp_path: Path) -> None:
    record = run_without_data(tmp_path, seeds=(0, 1))
    (section,) = (found for found in sections(by_stage(record.rows)) if found.title == "Pseudo-images")
    assert [(group.title, group.folded, group.wide, len(group.pictures)) for group in section.groups] == [
        ("student, seed 0", False, True, 1),
        ("student, seed 0: all 4 images after 100 pseudo-batches", False, True, 1),
        ("student, seed 1", True, True, 1),
        ("student, seed 1: all 4 images after 100 pseudo-batches", True, True, 1),
    ]


def test_epochs_and_pseudo_batches_share_no_axis(tmp_path: Path) -> None:
    page = page_of(run_without_data(tmp_path), tmp_path)
    assert_asks_for_nothing(page)
    assert "collapsed after 60 pseudo-batches" in page.reads
    assert "collapse at 60" in page.reads
    assert "96.9 % test accuracy of student (last weights)" in page.reads
    glance = page.text[page.text.index("Overview") : page.text.index("Learning curves")]
    trained, taught = re.findall(r'aria-label="Test accuracy .*?</svg>', glance, re.DOTALL)
    assert [name in trained for name in ("teacher", "alone", "student", ">epoch<")] == [True, True, False, True]
    assert [name in taught for name in (">epoch<", ">pseudo-batches<")] == [False, True]
    went = page.text[page.text.rindex("<h3>student<", 0, page.text.index("Pseudo-images")) :]
    went = went[: went.index("Pseudo-images")]
    titles = re.findall(r'<svg[^>]* aria-label="([^"]*)"', went)
    assert titles == ["accuracy", "generator&#x27;s losses", "student&#x27;s losses", "agreement"]
    assert went.count(">pseudo-batches<") == 4
    assert ">epoch<" not in went


def test_damaged_pseudo_images_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = run_without_data(tmp_path, content={**CONTENT, "classes": ["cat"]})
    with caplog.at_level(logging.WARNING):
        (part,) = (part for part in sections(by_stage(record.rows)) if part.title == "Pseudo-images")
    assert part.groups == ()
    assert re.search(r"pseudo\.json cannot be shown: .* one per class at .*\.$", *part.problems)
    assert re.search(r"pseudo\.json cannot be shown: .* one per class at .*; the report leaves it out", caplog.text)


def test_classes_with_markup_are_inert_on_the_page(tmp_path: Path) -> None:
    page = page_of(run_without_data(tmp_path, content={**CONTENT, "classes": [HOSTILE] * 3}), tmp_path)
    assert_asks_for_nothing(page)
    assert "Pseudo-images" in page.reads


def test_a_section_that_fails_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Section):
        """A plug-in with a mistake."""

        title = "Never shown"
        payload = HistoryPayload

        def groups(self, found: Sequence[Found[HistoryPayload]]) -> list[Group]:
            raise ZeroDivisionError(f"{len(found)} of nothing")

    SECTIONS.names()
    monkeypatch.setattr(SECTIONS, "_components", {name: SECTIONS.get(name) for name in SECTIONS.loaded()})
    record = fake_run(tmp_path)
    whole = [part.title for part in sections(by_stage(record.rows))]
    SECTIONS.register("wrong")(Wrong)
    *others, wrong = sections(by_stage(record.rows))
    assert [part.title for part in others] == whole
    trained = sum((row.folder / "history.json").is_file() for row in record.rows if row.folder)
    assert wrong.problems == (f"The section 'wrong' cannot be drawn: ZeroDivisionError: {trained} of nothing.",)
    assert wrong.problems[0] in page_of(record, tmp_path).reads
