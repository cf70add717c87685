"""`list` and `show` print what the registry knows, plugins and broken ones included."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from nasdistill.cli.options import options_of, type_in_words
from nasdistill.registry import KINDS, ComponentOf, registry
from tests.cli.conftest import Command


def test_list_prints_every_kind_and_every_name(nasdistill: Command) -> None:
    told = nasdistill("list").stdout
    for kind in KINDS:
        assert f"\n{kind}\n" in "\n" + told
        for name in registry(kind).names():
            assert f" {name} " in told


def test_list_of_a_kind_names_a_broken_plugin_and_goes_on(nasdistill: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    done = nasdistill("list", "optimizers", "--plugin", "broken.py")
    assert done.returncode == 0
    assert " sgd " in done.stdout
    assert "broken.py" in done.stdout
    assert "No module named 'nothing_of_this_name'" in done.stdout


def test_show_prints_options_types_defaults_meaning_source_and_origin(nasdistill: Command) -> None:
    told = nasdistill("show", "objectives", "kd").stdout
    assert "source: Hinton" in told
    assert "from: built-in" in told
    (line,) = [line for line in told.splitlines() if line.startswith(" temperature ")]
    assert "number" in line
    assert "4" in line


def test_show_of_a_plugins_component_says_where_it_is_from(nasdistill: Command, plugin: Path) -> None:
    assert "from: echo_stage.py sha256:" in nasdistill("show", "stage", "echo", "--plugin", plugin.name).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "objectivs"), "unknown kind 'objectivs'; did you mean 'objectives'?"),
        (("show", "objectives", "atention"), "unknown objective 'atention'; did you mean 'attention'?"),
    ],
)
def test_unknown_names_point_to_the_nearest(nasdistill: Command, arguments: tuple[str, ...], words: str) -> None:
    done = nasdistill(*arguments)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "whole number or null"),
        (Literal["params", "flops"], "params or flops"),
        (tuple[int, int, int], "[whole number, whole number, whole number]"),
        (tuple[float, ...], "list of: number"),
        (list[Annotated[Any, ComponentOf("objectives")]], "list of: name or mapping, of objectives"),
        (dict[str, Any], "mapping"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    assert type_in_words(annotation) == words


def test_options_are_read_from_the_fields_required_ones_first() -> None:
    class Config(BaseModel):
        rate: float = Field(0.5, description="how fast")
        rules: list[Annotated[Any, ComponentOf("optimizers")]] = Field(
            default_factory=lambda: [{"name": "sgd", "lr": 1.0}], description="which"
        )
        name: str = Field(description="who")

    first, second, third = options_of(Config)
    assert (first.name, first.required, first.default_text, first.meaning) == ("name", True, "required", "who")
    assert (second.flag, second.type, second.default_text) == ("--rate", "number", "0.5")
    assert (third.component_kind, third.default_text) == ("optimizers", "[{name: sgd, lr: 1.0}]")
