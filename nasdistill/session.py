"""Classes that are defined in a session: a notebook's cells, an interpreter's lines, a script from standard input."""

from __future__ import annotations

import ast
import linecache
import symtable
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def is_session(module: str) -> bool:
    """Whether `module` has no file, so that its source is what was typed."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not Path(file).is_file()


def definitions(component: type) -> tuple[dict[str, str], set[str]]:
    """The source of a class of a session, of what else of the session it names, and the modules that it imports from.

    Returns:
        by name the text of each definition, and each plain constant; the modules that other names come from.

    Raises:
        LookupError: some source is gone, or a name stands for what is neither code nor a plain constant.
    """
    session = vars(sys.modules[component.__module__]) if component.__module__ in sys.modules else {}
    texts: dict[str, str] = {}
    modules: set[str] = set()
    todo: list[Any] = [component]
    while todo:
        definition = todo.pop()
        text = _text(definition)
        texts[definition.__name__] = text
        for name in _names(symtable.symtable(text, definition.__name__, "exec")):
            value = session.get(name)
            if name in texts or name not in session:
                continue
            if isinstance(value, types.ModuleType):
                modules.add(value.__name__)
            elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
                if value.__module__ == component.__module__:
                    todo.append(value)
                else:
                    modules.add(value.__module__ or "builtins")
            elif _is_plain(value):
                texts[name] = repr(value)
            else:
                raise LookupError(f"{definition.__name__} reads {name}, which is no code and no plain constant")
    return texts, modules


def _text(definition: Any) -> str:
    """The text of a class or function without the decorator that registers it, which names the registry alone."""
    code = _code(definition)
    if code is not None:
        for node in ast.walk(ast.parse("".join(linecache.getlines(code.co_filename)))):
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef)
                and node.name == definition.__name__
                and node.lineno <= code.co_firstlineno + len(node.decorator_list)
                and code.co_firstlineno <= (node.end_lineno or 0)
            ):
                node.decorator_list = [each for each in node.decorator_list if not _registers(each)]
                return ast.unparse(node)
    raise LookupError(f"no source of {definition.__name__}")


def _code(definition: Any) -> types.CodeType | None:
    """The code of a function, or of a class's first method, as a class does not know where it was typed."""
    if isinstance(definition, types.FunctionType):
        return definition.__code__
    for value in vars(definition).values():
        function = getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType) and function.__qualname__.startswith(definition.__qualname__ + "."):
            return function.__code__
    return None


def _registers(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "register"


def _names(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that are looked up in the session."""
    for symbol in table.get_symbols():
        if symbol.is_global() or (table.get_type() == "module" and symbol.is_referenced()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _names(inner)


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple | frozenset) and all(map(_is_plain, value)))
