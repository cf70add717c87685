"""What is wrong in a config is found at its place and said in one sentence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from nasdistill.errors import SpecError
from nasdistill.validation import build


class Inner(BaseModel, extra="forbid"):
    width: int = 1


class Needed(BaseModel, extra="forbid"):
    height: int


class Config(BaseModel, extra="forbid"):
    needed: Needed = Needed(height=1)
    inner: Inner | None = None
    many: list[Inner] = []
    size: int | Annotated[str, Field(pattern="^auto$")] = "auto"
    named: dict[str, Inner] = {}
    either: Inner | Literal["computed"] = "computed"
    pair: tuple[int, int] = (1, 2)


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"inner": {"widht": 2}}, ("inner", "widht"), "unknown key 'widht'; did you mean 'width'?"),
        ({"many": [{}, {"widht": 2}]}, ("many", 1, "widht"), "unknown key 'widht'; did you mean 'width'?"),
        ({"named": {"a": {"widht": 2}}}, ("named", "a", "widht"), "unknown key 'widht'; did you mean 'width'?"),
        ({"many": [{"width": "x"}]}, ("many", 0, "width"), "must be an integer"),
        ({"either": {"widht": 2}}, ("either", "widht"), "unknown key 'widht'; did you mean 'width'?"),
        ({"either": 3}, ("either",), "mapping of keys to values, or must be 'computed', got 3"),
        ({"wide": 3}, ("wide",), "unknown key 'wide' (known: either, inner, many, named, needed, pair, size)"),
        ({"needed": {}}, ("needed", "height"), "the key 'height' is missing"),
        ({"pair": [1]}, ("pair",), "at least 2 must be given, got [1]"),
        ({"pair": [1, 2, 3]}, ("pair",), "at most 2 may be given, got [1, 2, 3]"),
        ({3: 4}, (3,), "keys must be strings"),
        ({"size": "big"}, ("size",), "must be an integer, or must match the pattern '^auto$'"),
    ],
)
def test_nested_problems_are_found_at_their_place(
    options: dict[str, Any], path: tuple[str | int, ...], problem: str
) -> None:
    with pytest.raises(SpecError) as error:
        build(Config, options)
    assert error.value.path == path
    assert problem in error.value.problem
