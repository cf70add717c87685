"""`nasdistill run --sweep`: from the command line to the joined table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

RECIPE = """\
name: echoes
data: digits
plugins: [echo_stage.py]
stages:
  - {name: first, uses: echo, with: {model: mlp-8}}
  - {name: second, uses: echo, with: {model: mlp-8, share: 0.5}}
"""
SWEEP = ("--sweep", "stages.second.times=4,5", "--sweep", "stages.second.words=[a],[b, c]", "--seeds", "0,1")


@pytest.fixture(autouse=True)
def recipe(plugin: Path, tmp_path: Path) -> None:
    (tmp_path / "echoes.yaml").write_text(RECIPE)


def test_a_sweep_is_joined_into_one_table(nasdistill: Command, tmp_path: Path) -> None:
    done = nasdistill("run", "echoes.yaml", "--trust", *SWEEP)
    assert done.returncode == 0, done.stderr
    assert "Selected test accuracy of second, %" in done.stdout
    out = tmp_path / "runs" / "echoes"
    rows = json.loads((out / "results.json").read_text())
    assert [row["stage"] for row in rows] == ["first", *["second"] * 4] * 2
    with (out / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["stages.second.words"] for line in lines] == ["", "[a]", "[b, c]", "[a]", "[b, c]"]
    assert {(line["selected_mean"], line["selected_seed_1"]) for line in lines} == {("60.5", "61.0")}
    assert "| 4 | \\[b, c\\] | second |" in (out / "sweep.md").read_text()
    assert "The sweep" in (out / "report.html").read_text()

    again = nasdistill("report", str(out))
    assert again.returncode == 0, again.stderr
    assert "Selected test accuracy of second, %" in again.stdout
    assert "The sweep" in (out / "report.html").read_text()


def test_the_plan_counts_points_and_stages(nasdistill: Command, tmp_path: Path) -> None:
    done = nasdistill("run", "echoes.yaml", "--trust", *SWEEP, "--dry-run")
    assert "4 points, 10 of 10 stages to do" in done.stdout
    assert "second, second.times=5, second.words=[b, c]" in done.stdout
    assert not (tmp_path / "runs").exists()
    nasdistill("run", "echoes.yaml", "--trust", "--seeds", "0,1")
    assert "4 points, 8 of 10 stages to do" in nasdistill("run", "echoes.yaml", "--trust", *SWEEP, "--dry-run").stdout


@pytest.mark.parametrize(
    ("sweep", "sentence"),
    [
        ("stages.second.times=4,0", "--sweep stages.second.times=0: stages.second.times: "),
        ("stages.second.times=4,4", "the value 4 stands here twice"),
        ("seeds=0,1", "with --seeds 0,1,2"),
    ],
)
def test_a_wrong_value_is_told_before_anything_runs(
    sweep: str, sentence: str, nasdistill: Command, tmp_path: Path
) -> None:
    done = nasdistill("run", "echoes.yaml", "--trust", "--sweep", sweep)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
