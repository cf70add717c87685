"""Digits of other scripts, superscripts, underscores and thousands of digits are no numbers, whoever types them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nasdistill.cli.networks import numbers_in, shape_in
from nasdistill.cli.parameters import seeds_in
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS
from nasdistill.numerals import number, whole_number
from nasdistill.recipes.experiment import TuneSettings
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.source import parse
from nasdistill.registry import build, registry

NO_NUMBERS = [
    "²",
    "٣",
    "1_0",
    "\N{FULLWIDTH DIGIT ONE}",
    "Ⅳ",
    "\N{BENGALI DIGIT FOUR}",
    "1²",
    "",
    "-",
    "1\u00a0",
    "9" * 5000,
]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_whole_number(text: str) -> None:
    assert whole_number(text) is None
    assert not isinstance(parse(f"[{text}]").data, int)


@pytest.mark.parametrize("text", [*NO_NUMBERS[:-1], "nan", "inf", "1e", "1e٣", "0x10"])
def test_what_is_no_number(text: str) -> None:
    assert number(text) is None


def test_numbers_are_as_large_as_they_are_written() -> None:
    assert [whole_number(text) for text in ("007", "-3", "+4", "9223372036854775808")] == [7, -3, 4, 2**63]
    assert parse("[18446744073709551616, 1e-3]").data == [2**64, 0.001]


@pytest.mark.parametrize("index", [*NO_NUMBERS, "-1", "2"])
def test_an_override_knows_the_index_of_a_list(index: str) -> None:
    with pytest.raises(UserError, match="is no index of a list of 2"):
        load_recipe("quickstart", [f"stages.student.objectives.{index}=kd"])


@pytest.mark.parametrize("typed", ["²", "٣", "1_0", "9" * 5000])
@pytest.mark.parametrize(
    "read",
    [
        lambda typed: MODELS.parse(f"wrn-{typed}-1"),
        lambda typed: MODELS.parse(f"mlp-{typed}"),
        lambda typed: MODELS.parse(f"darts-v2-{typed}-3"),
        lambda typed: MODELS.parse(f"densenet-40-{typed}"),
        lambda typed: shape_in(f"3x{typed}x8"),
        lambda typed: seeds_in(f"0,{typed}"),
        lambda typed: build(TuneSettings, {"duration": f"{typed}m"}),
        lambda typed: registry("datasets").parse({"name": "image-folder", "root": ".", "size": f"{typed}x8"}),
    ],
)
def test_whatever_takes_numbers_takes_these_digits_alone(read: Callable[[str], object], typed: str) -> None:
    with pytest.raises(UserError):
        read(typed)


@pytest.mark.parametrize("typed", ["0.5,²", "0.5,٣", "0.5,nan", "0.5,1_0"])
def test_normalisation_is_made_of_such_numbers(typed: str) -> None:
    with pytest.raises(UserError, match="--mean takes numbers separated by commas"):
        numbers_in("--mean", typed)
    assert numbers_in("--mean", "0.5, 1e-1") == [0.5, 0.1]


def test_letters_of_other_alphabets_are_no_letters_of_a_shorthand() -> None:
    assert MODELS.parse("ResNet-20").spec() == MODELS.parse("resnet-20").spec()
    with pytest.raises(UserError, match="unknown model"):
        MODELS.parse("re\N{LATIN SMALL LETTER LONG S}net-20")
