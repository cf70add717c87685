"""Reads the pickles that CIFAR comes in as what they are, plain data, and executes nothing.

A pickle is a program for a stack machine, and may call any function. The batches of CIFAR use a small part of it:
dictionaries, lists, strings, whole numbers, and arrays of bytes. This reader knows that part; it neither imports nor
calls what a file names, and refuses whatever else stands in it.

Source: the comments of Python's `pickletools`, which takes a pickle apart without running it.
"""

from __future__ import annotations

import pickletools
from typing import Any

import numpy as np

ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
DTYPE = "numpy dtype"
ENCODE = "_codecs encode"
KNOWN = (*ARRAY, "numpy ndarray", DTYPE, ENCODE)

IGNORED = ("PROTO", "FRAME")
VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class NotPlainData(ValueError):
    """The pickle is damaged, or holds more than plain data."""


class _Mark:
    """Where the items of the next list, tuple or dictionary begin on the stack."""


class _Name:
    """A name of Python code, never looked up."""

    def __init__(self, name: str) -> None:
        if name not in KNOWN:
            raise NotPlainData(f"it names {name!r}, which plain data do not")
        self.name = name


class _Unfilled:
    """An array or a type of numbers before its content."""

    def __init__(self, what: str) -> None:
        self.what = what


def read_plain_pickle(data: bytes) -> Any:
    """What a pickle of plain data holds; strings, also those that were bytes, come as `str` of latin-1 characters.

    Raises:
        NotPlainData: the bytes are no pickle, or not one of plain data.
    """
    try:
        return _run(data)
    except NotPlainData:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise NotPlainData(f"it is damaged ({error})") from None


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in IGNORED:
            continue
        if name == "STOP":
            return stack.pop()
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_Mark())
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in TUPLES:
            stack.append(tuple(_pop(stack, TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        elif name in ("APPEND", "APPENDS"):
            items = _pop_to_mark(stack) if name == "APPENDS" else _pop(stack, 1)
            _top(stack, list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _pop_to_mark(stack) if name == "SETITEMS" else _pop(stack, 2)
            _top(stack, dict).update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_Name(argument))
        elif name == "REDUCE":
            called, arguments = _pop(stack, 2)
            stack.append(_made(called, arguments))
        elif name == "BUILD":
            unfilled, state = _pop(stack, 2)
            stack.append(_filled(unfilled, state))
        else:
            raise NotPlainData(f"it has the instruction {name}, which plain data do not need")
    raise NotPlainData("it ends too early")


def _pop(stack: list[Any], count: int) -> list[Any]:
    if count > len(stack):
        raise NotPlainData("it takes more than it holds")
    items = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return items


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    mark = next((k for k in reversed(range(len(stack))) if isinstance(stack[k], _Mark)), None)
    if mark is None:
        raise NotPlainData("a collection in it has no beginning")
    items = stack[mark + 1 :]
    del stack[mark:]
    return items


def _top(stack: list[Any], kind: type) -> Any:
    if not isinstance(stack[-1], kind):
        raise NotPlainData(f"it fills a {type(stack[-1]).__name__} like a {kind.__name__}")
    return stack[-1]


def _made(called: Any, arguments: Any) -> Any:
    """What the call of a known name stands for."""
    name = called.name if isinstance(called, _Name) else None
    if name in ARRAY:
        return _Unfilled("array")
    if name == DTYPE and arguments[0] == "u1":
        return _Unfilled("uint8")
    if name == ENCODE and arguments[1] == "latin1":  # how Python 3 writes bytes for Python 2
        return arguments[0]
    raise NotPlainData("it calls what plain data do not need")


def _filled(unfilled: Any, state: Any) -> Any:
    what = unfilled.what if isinstance(unfilled, _Unfilled) else None
    if what == "uint8":
        return unfilled  # a type of single bytes has no byte order, and nothing else to say
    if what != "array":
        raise NotPlainData("it fills what plain data do not hold")
    _, shape, dtype, column_major, content = state
    if not isinstance(dtype, _Unfilled) or dtype.what != "uint8" or column_major:
        raise NotPlainData("an array in it is not one of bytes in rows")
    return np.frombuffer(content.encode("latin1"), dtype=np.uint8).reshape(shape)
