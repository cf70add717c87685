"""Cells as NAS-Bench-201 writes them: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

State 0 is the cell's input, and node n is state n, from 1 on. A part of the string is a node, with the operation on
each of its edges and the state that this reads.

Source: Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326), and its released code.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from nasdistill.errors import SpecError, unknown

NONE = "none"
"""The operation of an edge that is not there."""

SKIP = "skip_connect"
"""The operation that gives what it reads."""

_INPUT, _ZERO = "0", "#"

Rows = tuple[tuple[str, ...], ...]
"""Of each node the operations by the state that they read, so that row n has n + 1 of them, counted from 0."""


def parse_cell(text: str, operations: Collection[str] | None = None) -> Rows:
    """The rows of a cell in the benchmark's form.

    Args:
        operations: those that there may be; any, if not given.

    Raises:
        SpecError: this is no such cell, or it has another operation.
    """
    rows = []
    for number, part in enumerate(text.split("+"), 1):
        row = tuple(re.findall(r"\|([^|~]+)~", part))
        if len(row) != number or _written(row) != part:
            wanted = _written(["operation"] * number)
            raise SpecError(f"part {number} of a cell, which is node {number}, is written {wanted}, got {part!r}")
        for name in row:
            if operations is not None and name not in operations:
                raise SpecError(unknown("operation", name, operations))
        rows.append(row)
    return tuple(rows)


def format_cell(rows: Sequence[Sequence[str]]) -> str:
    """A cell in the benchmark's form."""
    return "+".join(map(_written, rows))


def canonical(rows: Sequence[Sequence[str]]) -> str:
    """A form by which cells are one function: of the benchmark's 15,625 cells it tells 6,466 apart, as they count.

    A node is written as the sorted sum of its edges; an edge of `skip_connect` as the state that it reads; one of
    `none`, or from a state that is zero, as zero. Cells of one form are one function. The reverse does not hold: zeros
    are not left out, and sums of sums are not sorted anew. With both, 4,930 would be told apart; the count of the
    benchmark follows from just these characters, by which terms are sorted.

    Source: Dong and Yang 2020, section 2.1, and the released code's procedure for isomorphic cells.

    Examples:
        >>> canonical([["skip_connect"], ["none", "nor_conv_1x1"]])
        '#+(0)@nor_conv_1x1'
    """
    states = [_INPUT]
    for row in rows:
        terms = (_term(name, state) for name, state in zip(row, states, strict=True))
        states.append("+".join(sorted(terms)))
    return states[-1]


def _term(name: str, state: str) -> str:
    if name == NONE or state == _ZERO:
        return _ZERO
    return state if name == SKIP else f"({state})@{name}"


def _written(row: Sequence[str]) -> str:
    return "|" + "".join(f"{name}~{state}|" for state, name in enumerate(row))
