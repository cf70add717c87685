"""Cells in the form of NAS-Bench-201."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest

from nasdistill.errors import SpecError
from nasdistill.models.cell_strings import Rows, canonical, format_cell, parse_cell

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def test_a_string_of_the_benchmark_and_back() -> None:
    rows = parse_cell(BEST, ("skip_connect", "nor_conv_1x1", "nor_conv_3x3"))
    assert rows[2] == ("skip_connect", "nor_conv_3x3", "nor_conv_1x1")
    assert [len(row) for row in rows] == [1, 2, 3]
    assert format_cell(rows) == BEST
    assert parse_cell("|none~0|+|my-own_5x5~0|none~1|") == (("none",), ("my-own_5x5", "none"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "part 1 of a cell, which is node 1, is written |operation~0|, got ''"),
        ("|none~1|", "is written |operation~0|, got '|none~1|'"),
        ("|none~0|+|none~0|", "node 2, is written |operation~0|operation~1|, got '|none~0|'"),
        ("|none~0|+none~0|none~1", "node 2, is written |operation~0|operation~1|, got 'none~0|none~1'"),
        ("|none~0|+|nor_conv_3x4~0|none~1|", "unknown operation 'nor_conv_3x4'; did you mean 'nor_conv_3x3'?"),
    ],
)
def test_what_is_no_cell_is_told_with_what_was_expected(text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=re.escape(sentence)):
        parse_cell(text, ("none", "skip_connect", "nor_conv_3x3"))


def all_cells(operations: tuple[str, ...]) -> Iterator[Rows]:
    for first, *others in itertools.product(operations, repeat=6):
        yield (first,), tuple(others[:2]), tuple(others[2:])


def test_as_many_different_cells_as_the_benchmark_counts() -> None:
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    cells = list(all_cells(operations))
    assert len(cells) == 15_625
    assert len(set(map(canonical, cells))) == 6_466, "Dong and Yang 2020, section 2.1"


def test_a_convolution_on_either_way_is_one_function() -> None:
    """Of the input, by a skip connection before or after it or alone; behind it, another operation reads zero."""
    forms = {
        canonical(parse_cell(text))
        for text in (
            "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|",
            "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
            "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|",
        )
    }
    assert forms == {"#+#+(0)@nor_conv_3x3"}
