"""Searches side by side, as a page and the terminal show them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdistill.cli.results import show_results
from nasdistill.report.records import Row
from nasdistill.report.sections import Found
from nasdistill.report.sections.strategies import Strategies
from nasdistill.report.sections.truth import TruthPayload
from nasdistill.report.summaries import by_stage
from nasdistill.storage import write_json
from nasdistill.truth.nas_bench_201 import lookup
from tests.report.fakes import resealed

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
GOOD = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def row(out: Path, stage: str, seed: int, cell: str, regret: list[list[float]], **metrics: Any) -> Row:
    folder = out / f"{stage}-{seed}"
    folder.mkdir()
    write_json(folder / "truth.json", {"architectures": [{"name": stage, **lookup(cell).plain()}]})
    write_json(folder / "history.json", {"curves": {"regret/CIFAR-10": regret} if regret else {}})
    resealed(folder)
    return Row(stage, "search", seed, seconds=40.0, folder=folder, metrics=metrics)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return [
        row(tmp_path, "collapsed", 0, SKIPS, []),
        row(tmp_path, "good", 0, GOOD, [[0, 9], [2, 5], [4, 0]], rank_correlation={"CIFAR-10": 0.5}),
        row(tmp_path, "good", 1, SKIPS, [[0, 7], [1, 3]], rank_correlation={"CIFAR-10": 0.3}),
    ]


def found(rows: list[Row]) -> list[Found[TruthPayload]]:
    kept = []
    for stage in by_stage(rows):
        texts = {each.seed: (each.folder / "truth.json").read_text() for each in stage.rows if each.folder}
        kept.append(Found(stage, {seed: TruthPayload.model_validate_json(text) for seed, text in texts.items()}))
    return kept


def test_a_line_for_each_search_the_best_first(rows: list[Row]) -> None:
    (group,) = Strategies().groups(found(rows))
    assert group.table is not None
    good, collapsed = ([str(cell) for cell in line] for line in group.table.rows)
    assert group.table.header[:4] == ("search", "CIFAR-10 %", "median rank", "regret")
    assert good[0] == "good"
    assert good[1] == "74.34 ± 28.33 (94.37, 54.30)"
    assert good[-4:] == ["40 s", "3.5 ± 3.5", "17 %", "0.40 ± 0.14"]
    assert collapsed[-4:] == ["40 s", "6.0", "\N{EN DASH}", "\N{EN DASH}"]


def test_regret_goes_over_seconds_and_stays_until_something_else_is_found(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("nasdistill.report.plots.lines", lambda series, *_labels: drawn.append(series) or "<svg/>")
    Strategies().groups(found(rows))
    # Forty seconds are 2.5 epochs, the mean of both seeds.
    at = [0, 16, 32, 64]
    assert drawn == [{"good": [list(zip(at, [9, 9, 5, 0])), list(zip(at, [7, 3, 3, 3]))]}]  # noqa: B905


def test_a_correlation_of_some_seeds_says_of_how_many(rows: list[Row]) -> None:
    unknown = replace(rows[2], metrics={})
    (group,) = Strategies().groups(found([*rows[:2], unknown]))
    assert group.table is not None
    assert [str(line[-1]) for line in group.table.rows] == ["0.50 (1 of 2 seeds)", "\N{EN DASH}"]


def test_time_before_the_trials_is_in_no_picture(tmp_path: Path, rows: list[Row]) -> None:
    shared = row(tmp_path, "shared", 0, GOOD, [[0, 9], [3, 0]])
    assert shared.folder is not None
    history = {"curves": {"regret/CIFAR-10": [[0, 9], [3, 0]], "train/loss": [[1, 2]]}, "found_x": "trial"}
    write_json(shared.folder / "history.json", history)
    resealed(shared.folder)
    (group,) = Strategies().groups(found([rows[0], shared]))
    assert group.pictures == ()


def test_one_search_is_compared_with_nothing(rows: list[Row]) -> None:
    assert Strategies().groups(found(rows[:1])) == []


def test_the_terminal_has_one_table_for_all_searches(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    show_results(rows)
    assert len(re.findall("CIFAR-100 %", capsys.readouterr().out)) == 1
    show_results(rows[:1])
    assert "architecture" in capsys.readouterr().out
