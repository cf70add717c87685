from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nasdistill.report.page import write_comparison, write_report
from nasdistill.report.records import Row, RunRecord
from nasdistill.words import NONE
from tests.report.fakes import fake_run, resealed

Run = tuple[RunRecord, Path]
HOSTILE = "<script>alert(1)</script><img src=//evil.example/x onerror=alert(1)>\"'&{{ 7*7 }}$\\frac{_"


class Page(HTMLParser):
    """What a browser would find in a page: its elements, and the words between them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._in_style = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.words += data.split()

    @property
    def reads(self) -> str:
        return " ".join(self.words)

    def count(self, tag: str) -> int:
        return sum(element == tag for element, _ in self.elements)


def page_of(record: RunRecord, folder: Path) -> Page:
    write_report(record, folder / "report.html")
    return Page(folder / "report.html")


def assert_asks_for_nothing(page: Page) -> None:
    csp = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert {"http-equiv": "Content-Security-Policy", "content": csp} in [attributes for _, attributes in page.elements]
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "img", "audio", "video"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}:
                assert value is not None
                assert value.startswith(("#", "data:")), (tag, name, value[:40])
    assert re.findall(r"url\(\s*['\"]?(?!#)", page.text) == []
    assert "@import" not in page.text


def test_the_page_tells_the_whole_run(one_seed: Run, tmp_path: Path) -> None:
    record, _ = one_seed
    page = page_of(record, tmp_path)
    assert_asks_for_nothing(page)
    for words in (
        "quickstart", "2026-11-21 01:20 UTC", "4 min 12 s", "Intel(R) Xeon(R) Processor, 2 cores", "torch 2.15.0",
        "1.99 times student-arch", "97.22 %, 1.04 points over alone; teacher, 1.99 times as large, has 98.27 %",
        "52,334", "104,151", "2.98 M", "nasdistill run quickstart --out runs/quickstart",
        "uses: search with: {space: darts-tiny, strategy: darts, epochs: 3}", "584 MiB", "3f2a9c01d4e5",
        "an earlier run", "Searched cells", "sep_conv_3x3", "Growth of the teacher", "alpha, normal cell",
        "entropy", "Classes",
    ):  # fmt: skip
        assert words in page.reads, words
    # 4 at a glance; 4 of the search (loss, alphas of both cells, entropy), 2 of each training; cells, growth, matrices,
    # and the classes of the network to ship.
    assert page.count("svg") == 4 + 4 + 3 * 2 + 2 + 2 + 4
    assert page.count("table") == 4


def test_several_seeds_show_each_value_and_how_sure_a_difference_is(three_seeds: Run, tmp_path: Path) -> None:
    record, _ = three_seeds
    page = page_of(record, tmp_path)
    assert "97.22 ± 0.21" in page.reads
    assert "97.22, 97.43, 97.01" in page.reads
    # The differences are 1.04, 1.04 and 0.41: mean 0.83, s 0.3637, times 4.303 / sqrt(3).
    assert "0.83 points over alone (95 % interval -0.07 to +1.73: it may be chance)" in page.reads
    assert page.count("details") == 2 + 2 + 1  # the cells and the growth of seeds 1 and 2; the recipe


def test_names_with_markup_are_inert(tmp_path: Path) -> None:
    record = fake_run(tmp_path, name=HOSTILE, prefix=HOSTILE)
    record = replace(
        record, recipe=HOSTILE, command=HOSTILE, device=HOSTILE, started=HOSTILE, versions={HOSTILE: HOSTILE}
    )
    page = page_of(record, tmp_path)
    assert_asks_for_nothing(page)
    assert "{{ 7*7 }}" in page.reads
    assert page.reads.count("<script>alert(1)</script><img") > 20
    write_comparison([record, record], tmp_path / "comparison.html")
    assert_asks_for_nothing(Page(tmp_path / "comparison.html"))


def test_names_in_payloads_are_inert(tmp_path: Path) -> None:
    record = fake_run(tmp_path)
    for row in record.rows:
        assert row.folder is not None
        for path in row.folder.glob("*.json"):
            if path.name in {"history.json", "genotype.json", "confusion.json", "growth.json"}:
                text = path.read_text().replace("sep_conv_3x3", "</svg><script>").replace('"step"', '"</td><script>"')
                path.write_text(text.replace("test/accuracy", "</g><script>/x").replace('"3"', '"</text><script>"'))
        resealed(row.folder)
    page = page_of(record, tmp_path)
    assert_asks_for_nothing(page)
    assert page.reads.count("<script>") >= 4


def test_a_damaged_picture_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = fake_run(tmp_path)
    record = replace(record, rows=(record.rows[0], record.rows[-1]))
    whole = page_of(record, tmp_path)
    student, search = record.rows[-1], record.rows[0]
    assert student.folder is not None
    assert search.folder is not None
    (student.folder / "confusion.json").write_text("[")
    (search.folder / "genotype.json").write_text(json.dumps({"normal": [[["none", 7]]], "reduce": []}))
    resealed(search.folder)
    with caplog.at_level(logging.WARNING):
        page = page_of(record, tmp_path)
    assert page.count("svg") == whole.count("svg") - 4
    assert f"{student.folder / 'confusion.json'} is damaged" in caplog.text
    assert "The section 'cells' cannot be drawn: ValueError: node 0 takes 'none' from state 7" in page.reads
    (search.folder / "artifact.json").unlink()
    with caplog.at_level(logging.WARNING):
        bare = page_of(record, tmp_path)
    assert f"{search.folder} is not an artifact: it holds no artifact.json" in bare.reads
    assert bare.count("svg") < page.count("svg"), "nobody knows whether its curves are as they were"


def test_a_digit_that_was_changed_by_hand_is_named(tmp_path: Path) -> None:
    record = fake_run(tmp_path)
    folder = record.rows[-1].folder
    assert folder is not None
    text = (folder / "history.json").read_text()
    (folder / "history.json").write_text(text.replace("1", "2", 1))
    page = page_of(record, tmp_path)
    assert f"{folder / 'history.json'} is damaged: its SHA-256 is not the one in artifact.json" in page.reads


def test_a_run_whose_artifacts_are_gone_still_has_a_page(tmp_path: Path) -> None:
    record = fake_run(tmp_path)
    shutil.rmtree(tmp_path / "artifacts")
    page = page_of(record, tmp_path)
    assert "97.22" in page.reads
    assert page.count("svg") == 3  # accuracy over size, computation and latency needs the record alone


def test_a_run_without_any_number_has_a_page(one_seed: Run, tmp_path: Path) -> None:
    record, _ = one_seed
    page = page_of(replace(record, rows=(Row("onnx", "export", 0),)), tmp_path)
    assert "onnx" in page.reads
    assert page.count("svg") == 0
    assert page_of(replace(record, rows=()), tmp_path).count("table") == 2


def test_the_same_run_has_the_same_page(one_seed: Run, tmp_path: Path) -> None:
    record = replace(one_seed[0], rows=one_seed[0].rows[-1:])
    (tmp_path / "again").mkdir()
    assert page_of(record, tmp_path).text == page_of(record, tmp_path / "again").text


def test_runs_side_by_side(one_seed: Run, three_seeds: Run, tmp_path: Path) -> None:
    record, other = one_seed[0], three_seeds[0]
    better = tuple(
        replace(row, accuracy=row.accuracy and {name: (value or 0) + 0.5 for name, value in row.accuracy.items()})
        for row in other.rows
    )
    write_comparison([record, other, replace(other, rows=better)], tmp_path / "comparison.html")
    page = Page(tmp_path / "comparison.html")
    assert_asks_for_nothing(page)
    assert "3 runs compared" in page.reads
    assert "three seeds (1): student" in page.reads
    # The third run has half a point more with each seed, which tells no deviation.
    assert f"three seeds (2): student three seeds (1): student selected +0.50 {NONE} 3 {NONE}" in page.reads
    assert "three seeds (1): student quickstart: student selected +0.00" in page.reads  # seed 0 is the shared one
    assert page.count("svg") == 1
