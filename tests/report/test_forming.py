"""Near ties and the cells' course, as a page shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdistill.report.records import RunRecord
from nasdistill.report.sections.cells import Cells, GenotypePayload
from nasdistill.report.sections.forming import Forming
from nasdistill.storage import read_json, write_json
from tests.report.fakes import NORMAL, REDUCE, fake_run, resealed
from tests.report.test_page import assert_asks_for_nothing, page_of

CHANGED = [[["dil_conv_3x3", 0], ["sep_conv_3x3", 1]], *NORMAL[1:]]


def run_with_cells(out: Path, normals: list[Any]) -> RunRecord:
    """Its search would have found these normal cells, after 0, 1, ... epochs; two of its edges are near ties."""
    record = fake_run(out)
    folder = record.rows[0].folder
    assert folder is not None
    models = [{"name": "darts", "genotype": {"normal": normal, "reduce": REDUCE}} for normal in normals]
    history = read_json(folder / "history.json") | {"found": list(enumerate(models))}
    write_json(folder / "history.json", history)
    edges = [
        {"cell": cell, "state": state, "node": node, "kept": kept, "next": "none", "margin": 0.1, "noise": noise,
         "decided": noise < 0.05}
        for cell, state, node, kept, noise in [
            ("normal", 2, 3, "dil_conv_3x3", 0.2),
            ("normal", 0, 3, "skip_connect", 0.01),  # decided
            ("normal", 0, 0, "max_pool_3x3", 0.2),  # the selection kept another
            ("normal", 1, 3, "skip_connect", 0.2),  # left out of the cell
            ("reduce", 1, 3, "max_pool_3x3", 0.2),
        ]
    ]  # fmt: skip
    write_json(folder / "decisions.json", {"edges": edges})
    resealed(folder)
    return record


def test_boxes_of_near_ties_are_dashed(tmp_path: Path) -> None:
    row = run_with_cells(tmp_path, []).rows[0]
    (group,) = Cells().of_seed("search", GenotypePayload(normal=NORMAL, reduce=REDUCE), row)
    boxes = [[rect.split("</text>")[0] for rect in picture.split("<rect")] for picture in group.pictures]
    dashed = [[rect.split(">")[-1] for rect in of_cell if "dasharray" in rect.split("/>")[0]] for of_cell in boxes]
    assert dashed == [["dil_conv_3x3"], ["max_pool_3x3"]]


@pytest.mark.parametrize(
    ("normals", "captions", "note"),
    [
        ([NORMAL, NORMAL, CHANGED], ["epoch 0", "epoch 2"], "Changes up to epoch 2: 1."),
        ([NORMAL, CHANGED, CHANGED, NORMAL, NORMAL], ["epoch 0", "epoch 1", "epoch 3", "epoch 4"], "epoch 4: 2."),
        ([NORMAL, CHANGED] * 2 + [NORMAL] * 2, [f"epoch {number}" for number in range(6)], "epoch 5: 4."),
    ],
)
def test_cells_are_drawn_as_they_changed(tmp_path: Path, normals: list[Any], captions: list[str], note: str) -> None:
    row = run_with_cells(tmp_path, normals).rows[0]
    normal, reduce = Forming().of_seed("search", GenotypePayload(normal=NORMAL, reduce=REDUCE), row)
    assert [normal.title, reduce.title] == ["search: normal cell", "search: reduction cell"]
    assert list(normal.captions) == captions
    assert normal.note.endswith(note)
    assert [picture.count(">dil_conv_3x3<") for picture in normal.pictures] == [
        sum(name == "dil_conv_3x3" for edges in normals[int(caption[6:])] for name, _ in edges) for caption in captions
    ]
    assert reduce.note == f"Changes up to epoch {len(normals) - 1}: 0."


def test_trials_are_told_as_such(tmp_path: Path) -> None:
    row = run_with_cells(tmp_path, [NORMAL, CHANGED]).rows[0]
    assert row.folder is not None
    history = read_json(row.folder / "history.json")
    history |= {
        "found": [[x, model] for x, (_, model) in zip((2, 9), history["found"], strict=True)],
        "found_x": "trial",
    }
    write_json(row.folder / "history.json", history)
    resealed(row.folder)
    normal, _reduce = Forming().of_seed("search", GenotypePayload(normal=NORMAL, reduce=REDUCE), row)
    assert (normal.captions, normal.note) == (("trial 2", "trial 9"), "Changes up to trial 9: 1.")


def test_the_page_lets_a_reader_choose_among_them_and_asks_for_nothing(tmp_path: Path) -> None:
    record = run_with_cells(tmp_path, [NORMAL, CHANGED])
    page = page_of(replace(record, rows=record.rows[:1]), tmp_path)
    assert_asks_for_nothing(page)
    inputs = [attributes for tag, attributes in page.elements if tag == "input"]
    assert ["checked" in each for each in inputs] == [False, True, False, True]
    assert len({each["name"] for each in inputs}) == 2


def test_without_that_history_nothing_is_shown(tmp_path: Path) -> None:
    row = fake_run(tmp_path).rows[0]
    assert Forming().of_seed("search", GenotypePayload(normal=NORMAL, reduce=REDUCE), row) == []
