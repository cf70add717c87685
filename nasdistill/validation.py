"""Configs from plain data: the first thing that is wrong, in one sentence with its place."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nasdistill.errors import SpecError, unknown

M = TypeVar("M", bound=BaseModel)

_INTEGER, _NUMBER, _BOOLEAN = "must be an integer", "must be a number", "must be true or false"
_LIST, _MAPPING = "must be a list", "must be a mapping of keys to values"
# By type of error and with its context, both of which pydantic documents: "Validation Errors" in its manual.
_SENTENCES = {
    "greater_than": "must be greater than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be less than {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "multiple_of": "must be a multiple of {multiple_of:.15g}",
    "finite_number": "must be a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), _INTEGER),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _BOOLEAN),
    "string_type": "must be a string",
    "string_pattern_mismatch": "must match the pattern '{pattern}'",
    "literal_error": "must be {expected}",
    **dict.fromkeys(("list_type", "tuple_type"), _LIST),
    **dict.fromkeys(("dict_type", "model_type"), _MAPPING),
    "too_short": "at least {min_length} must be given",
    "too_long": "at most {max_length} may be given",
    "invalid_key": "keys must be strings",
}


def build(model: type[M], options: Mapping[str, Any]) -> M:
    """Validate `options` against `model`; the first problem becomes a `SpecError` with its path.

    Raises:
        SpecError: an option is unknown, missing, or of the wrong kind or range.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise _first_problem(error, model, options) from None


def _first_problem(error: ValidationError, model: type[BaseModel], options: Mapping[str, Any]) -> SpecError:
    findings = error.errors()
    finding = findings[0]
    place = _place(finding, options)
    cause = finding.get("ctx", {}).get("error")
    if isinstance(cause, SpecError):
        return cause.at(*place)
    if finding["type"] == "extra_forbidden":
        known = _fields_at(model, place[:-1])
        return SpecError(unknown("key", str(place[-1]), known) if known else f"unknown key {place[-1]!r}", place)
    if finding["type"] == "missing" and isinstance(place[-1], int):
        return SpecError(f"at least {place[-1] + 1} must be given, got {finding['input']!r}", place[:-1])
    if finding["type"] == "missing":
        return SpecError(f"the key {place[-1]!r} is missing", place)
    # Where a value may be one of several things, each of them has a finding.
    sentences = dict.fromkeys(sentence(other) for other in findings if _place(other, options) == place)
    return SpecError(f"{', or '.join(sentences)}, got {finding['input']!r}", place)


def _place(finding: ErrorDetails, options: Mapping[str, Any]) -> tuple[str | int, ...]:
    """The path of a finding through `options`, without the names of alternatives that pydantic puts into it."""
    place: list[str | int] = []
    current: Any = options
    for part in finding["loc"]:
        if isinstance(current, Mapping):
            found = part in current
        else:
            found = isinstance(current, list | tuple) and isinstance(part, int) and part < len(current)
        if found:
            place.append(part)
            current = current[part]
    return (*place, finding["loc"][-1]) if finding["type"] == "missing" else tuple(place)


def sentence(finding: ErrorDetails) -> str:
    """What is wrong by pydantic's type of error, in our words where we have some: its own change between versions."""
    context = finding.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Exception):  # raised by a validator of ours
        return str(cause)
    ours = _SENTENCES.get(finding["type"])
    return ours.format_map(context) if ours else finding["msg"][:1].lower() + finding["msg"][1:]


def first_mistake(error: ValidationError) -> str:
    """What is wrong first in a file, and where."""
    first = error.errors()[0]
    return f"{sentence(first)} at {'.'.join(map(str, first['loc'])) or 'the top'}"


def _fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys that are known where `path` leads, or none where that is no mapping with fixed keys."""
    current: Any = model
    for part in path:
        fields = _fields(current)
        current = fields[str(part)].annotation if str(part) in fields else current
    return list(_fields(current))


def _fields(annotation: Any) -> Mapping[str, Any]:
    """The fields, by the keys that people write, of the first config in an annotation such as `list[Config] | None`."""
    if hasattr(annotation, "model_fields"):
        return {info.alias or name: info for name, info in annotation.model_fields.items()}
    return next((fields for part in typing.get_args(annotation) if (fields := _fields(part))), {})
