"""The stage `fit-size`: an architecture of the size that a budget allows, by command and in a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasdistill.cli.main import main


def test_a_network_of_the_size_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fit-size", "wrn-10-1", "--budget", "{parameters: 20k, bytes: 60kB}", "--data", "digits"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "results.json").read_text())
    needs = row["metrics"]["budget"]
    assert needs["parameters"] == row["parameters"] <= 20_000
    assert 0.8 * 60_000 < needs["bytes"] <= 60_000
    assert (tmp_path / row["artifact"] / "spec.json").is_file()
    assert f"it keeps the budget: {needs['parameters']:,} parameters (limit 20,000), an ONNX" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["fitnet-1", "--budget", "5k"],
            "--network: the widths of 'maxout' cannot change",
        ),
        (["wrn-10-1", "--budget", "5"], "--budget: the smallest network of 'wrn' is too large for the budget"),
        (["wrn-10-1", "--set", "budget.bites=5k"], "did you mean 'bytes'"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_it_runs(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit-size", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert sentence in capsys.readouterr().err
