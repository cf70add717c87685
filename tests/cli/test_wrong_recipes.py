"""Recipes, overrides and sweeps that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.cli.mistakes import Mistake, Prepare, nothing, recipe, text

MISTAKES: Mapping[str, Mistake] = {
    "no such recipe": ("nasdistill run quikstart", nothing, "did you mean 'quickstart'"),
    "empty recipe": ("nasdistill run mine.yaml", text(""), "mine.yaml: a recipe is a mapping"),
    "no stages": ("nasdistill run mine.yaml", text("name: a\nstages: []"), "mine.yaml:2: stages: at least 1"),
    "two documents": ("nasdistill run mine.yaml", recipe("stages:", "---\nstages:"), "remove the second '---'"),
    "deep YAML": ("nasdistill run mine.yaml", text("a: " + "[" * 9999), "mine.yaml:1: nested more than 20 levels"),
    "alias": ("nasdistill run mine.yaml", recipe("name: mine", "name: &a mine"), "anchors and aliases are not allowed"),
    "`with` misspelt": ("nasdistill run mine.yaml", recipe("with:", "wiht:"), "did you mean 'with'?"),
    "name is a path": ("nasdistill run mine.yaml", recipe("name: mine", "name: ../mine"), "got '../mine'"),
    "dotted objective": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: teacher, objectives: [{name: os.system}]"),
        "mine.yaml:10: stages.student.objectives.0.name: unknown objective 'os.system'",
    ),
    "_target_": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: {_target_: os.system}"),
        "stages.student.teacher: must be a string",
    ),
    "negative temperature": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: teacher, objectives: [{name: kd, temperature: -4}]"),
        "stages.student.objectives.0.temperature: must be greater than 0, got -4",
    ),
    "misspelt model": ("nasdistill run mine.yaml", recipe("wrn-10-1", "wrm-10-1"), "did you mean 'wrn'?"),
    "override below text": (
        "nasdistill run mine.yaml stages.a.b=1",
        text("name: a\nstages: [{name: a, uses: train, with: hello}]"),
        "override 'stages.a.b=1': there is nothing below 'stages.a.with'",
    ),
    "override without value": ("nasdistill run mine.yaml seed", recipe(), "override 'seed': write it as key.path=val"),
    "sweep without values": ("nasdistill run mine.yaml --sweep seed=", recipe(), "seeds are no part of a grid"),
    "sweep of broken YAML": ("nasdistill run mine.yaml --sweep data.limit=[9", recipe(), "not valid YAML"),
    "sweep of a wrong value": (
        "nasdistill run mine.yaml --sweep engine.precision=32,bf61",
        recipe(),
        "--sweep engine.precision=bf61: engine.precision: must be 'auto', '32' or 'bf16', got 'bf61'",
    ),
    "folder below a file": (
        "nasdistill run mine.yaml --out mine.yaml/run",
        recipe(),
        "mine.yaml/run cannot be the folder of a run",
    ),
}


@pytest.mark.parametrize("did", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(did: str, sentence: Callable[[str, Prepare], str]) -> None:
    command, prepare, words = MISTAKES[did]
    assert words in sentence(command, prepare)
