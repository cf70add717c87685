"""Configs from plain data: the first thing that is wrong, in one sentence with its place."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nasdistill.errors import SpecError, unknown

M = TypeVar("M", bound=BaseModel)


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
        return SpecError(cause.problem, place + cause.path)
    if finding["type"] == "extra_forbidden":
        known = _fields_at(model, place[:-1])
        return SpecError(unknown("key", str(place[-1]), known) if known else f"unknown key {place[-1]!r}", place)
    if finding["type"] == "missing" and isinstance(place[-1], int):
        return SpecError(f"at least {place[-1] + 1} must be given, got {finding['input']!r}", place[:-1])
    if finding["type"] == "missing":
        return SpecError(f"the key {place[-1]!r} is missing", place)
    # Where a value may be one of several things, each of them has a finding.
    messages = dict.fromkeys(_message(other) for other in findings if _place(other, options) == place)
    return SpecError(f"{', or '.join(messages)}, got {finding['input']!r}", place)


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


def _message(finding: ErrorDetails) -> str:
    kind, about = finding["type"], finding.get("ctx", {})
    if kind == "too_short":
        return f"at least {about['min_length']} must be given"
    if kind == "too_long":
        return f"at most {about['max_length']} may be given"
    if kind == "tuple_type":
        return "input should be a valid list"
    if kind in ("model_type", "dict_type"):
        return "input should be a mapping of keys to values"
    message = finding["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


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
