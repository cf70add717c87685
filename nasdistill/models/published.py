"""Genotypes as papers and released code print them, read without running anything.

Released code lists a cell's edges one after the other, two for each node, and the nodes that make up its output:

    Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], ...)

Source: Liu et al. 2019, DARTS, the released code; P-DARTS, PC-DARTS and others print theirs alike.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasdistill.errors import SpecError, unknown

CELLS = ("normal", "reduce")
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
EDGE = "('sep_conv_3x3', 0) or [sep_conv_3x3, 0], an operation and the state that it reads"
FORM = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ...], normal_concat=range(2, 6), reduce=[...], "
    "reduce_concat=range(2, 6)), or {normal: [[[sep_conv_3x3, 0], [skip_connect, 1]], ...], reduce: [...]}"
)

_CALL = re.compile(r"\bGenotype\s*\(")
_MOST_CHARACTERS = 100_000
_MOST_STATES = 1000


def is_printed(text: str) -> bool:
    """Whether a text is a genotype and not the name of one."""
    return _CALL.search(text) is not None or text.lstrip().startswith(("{", "["))


def parse_genotype(text: str) -> dict[str, Any]:
    """The fields of a printed genotype, `Genotype(...)` or a dictionary; what stands before the first is passed over.

    Raises:
        SpecError: it is not complete, or holds anything but lists, names and numbers; says where.
    """
    found = _CALL.search(text)
    text = text[found.start() if found else 0 :].strip()
    if len(text) > _MOST_CHARACTERS:
        raise SpecError(f"a genotype of {len(text):,} characters is none; it is written {FORM}")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f" at line {error.lineno}, character {error.offset}" if isinstance(error, SyntaxError) else ""
        raise SpecError(f"the genotype cannot be read{place}; it is written {FORM}") from None
    if not isinstance(tree, ast.Call):
        fields = _plain(tree)
        if not isinstance(fields, dict):
            raise SpecError(f"a genotype has two cells, {' and '.join(CELLS)}; it is written {FORM}")
        return fields
    if len(tree.args) > len(FIELDS):
        raise SpecError(f"a genotype has {len(FIELDS)} parts, {', '.join(FIELDS)}; got {len(tree.args)}")
    given = [*zip(FIELDS, tree.args, strict=False), *((word.arg or "**", word.value) for word in tree.keywords)]
    names = [name for name, _ in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SpecError(f"the genotype gives {twice!r} twice")
    return {name: _plain(value) for name, value in given}


def _plain(node: ast.expr) -> Any:
    """The value of a literal or of `range`.

    Raises:
        SpecError: it is anything else.
    """
    match node:
        case ast.Constant(value=str() | int() as value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_plain(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {str(_plain(key)): _plain(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="np" | "numpy")), args=[ast.Constant() as value], keywords=[]
        ):
            return _plain(value)  # NumPy prints its numbers and texts so
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[ast.Call() as inner], keywords=[]):
            return _plain(inner)
        case ast.Call(func=ast.Name(id="range"), args=[*bounds], keywords=[]):
            numbers = [_plain(bound) for bound in bounds]
            if 1 <= len(numbers) <= 2 and all(type(number) is int and number < _MOST_STATES for number in numbers):
                return list(range(*numbers))
    what = ast.unparse(node)[:40]
    raise SpecError(
        f"the genotype has {what!r} at line {node.lineno}, character {node.col_offset + 1}, where a list, "
        f"a name, a number or range(2, 6) may stand"
    )


def in_our_form(value: Any) -> Any:
    """A genotype as a mapping of `normal` and `reduce`, each with the edges of each node; anything else unchanged.

    Raises:
        SpecError: a cell has an odd number of edges, or leaves nodes out of its output; an edge is none; with its path.
    """
    if isinstance(value, str):
        value = parse_genotype(value)
    if not isinstance(value, Mapping):
        return value
    fields = {name: _literal(name, field) for name, field in value.items()}
    for name in fields:
        if name not in FIELDS:
            raise SpecError(f"{unknown('key', str(name), FIELDS)}; a genotype is written {FORM}", (str(name),))
    cells = {}
    for name in CELLS:
        if name in fields:
            cells[name] = _nodes(name, fields[name])
            _check_output(name, fields.get(f"{name}_concat"), len(cells[name]))
    return cells


def _literal(name: str, field: Any) -> Any:
    """A field that is text: of its own, or of YAML, which takes `[('skip_connect', 0)]` for two texts."""
    if isinstance(field, list | tuple) and field and all(isinstance(item, str | int) for item in field):
        text = f"[{', '.join(map(str, field))}]" if str(field[0]).lstrip().startswith("(") else None
    else:
        text = field if isinstance(field, str) else None
    if text is None:
        return field
    try:
        return _plain(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = error.problem if isinstance(error, SpecError) else f"{text!r:.60} cannot be read"
        raise SpecError(f"{problem}; a genotype is written {FORM}", (name,)) from None


def _nodes(cell: str, edges: Any) -> list[list[list[Any]]]:
    """The edges of each node of a cell that lists them by node, or one after the other."""
    if not isinstance(edges, list | tuple):
        raise SpecError(f"a cell is a list of edges, got {edges!r:.60}; a genotype is written {FORM}", (cell,))
    flat = any(isinstance(edge, list | tuple) and edge and isinstance(edge[0], str) for edge in edges)
    if not flat:
        return [_edges((cell, node), inside) for node, inside in enumerate(edges)]
    found = _edges((cell,), edges)
    if len(found) % 2:
        raise SpecError(f"{len(found)} edges in one list, which holds two for each node", (cell,))
    return [found[first : first + 2] for first in range(0, len(found), 2)]


def _edges(path: tuple[str | int, ...], edges: Any) -> list[list[Any]]:
    if not isinstance(edges, list | tuple):
        raise SpecError(f"a node has a list of edges, got {edges!r:.60}; an edge is {EDGE}", path)
    for number, edge in enumerate(edges):
        good = isinstance(edge, list | tuple) and len(edge) == 2 and isinstance(edge[0], str) and type(edge[1]) is int
        if not good:
            raise SpecError(f"{edge!r:.60} is no edge; one is {EDGE}", (*path, number))
    return [list(edge) for edge in edges]


def _check_output(cell: str, concat: Any, nodes: int) -> None:
    """Refuse a cell whose output leaves nodes out: here it is made of all of them, whose states follow the two inputs.

    Raises:
        SpecError: it does, or it has other states than there are.
    """
    if concat is None:
        return
    states = list(range(2, nodes + 2))
    if not isinstance(concat, list | tuple) or sorted(concat, key=str) != sorted(states, key=str):
        problem = f"the output of a cell of {nodes} nodes is made of all, states 2 to {nodes + 1}"
        raise SpecError(f"{problem}, got {concat!r:.60}", (f"{cell}_concat",))


def refuse_file(name: str) -> None:
    """Say how the text of a file is given, in place of its name.

    Raises:
        SpecError: there is a file of that name.
    """
    if len(name) < 1000 and Path(name).is_file():
        raise SpecError(f'{name!r} is a file; a genotype is given by its text: genotype="$(cat {name})"')
