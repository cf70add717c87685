"""A point of a sweep in words: `{"stages.student.epochs": 1}` as `student.epochs=1`, or as the name of a folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

LONGEST_NAME = 64


def value_in_words(value: Any) -> str:
    """Plain data on one line, the way it is typed: `[kd, {name: attention, beta: 1000}]`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_in_words(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_in_words, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def in_words(point: Mapping[str, Any]) -> str:
    """`student.epochs=1, data.limit=100`; nothing where nothing is swept."""
    return ", ".join(f"{key.removeprefix('stages.')}={value_in_words(value)}" for key, value in point.items())


def values_in_words(point: Mapping[str, Any]) -> str:
    """`1 100`, where one knows of what."""
    return " ".join(map(value_in_words, point.values()))


def folder_name(stage: str, point: Mapping[str, Any]) -> str:
    """A name for a stage at a point that every file system takes; a hash tells apart what was cut or replaced."""
    if not point:
        return stage
    words = in_words(point).replace(", ", ",")
    plain = re.sub(r"[^A-Za-z0-9._=,-]", "-", words)[:LONGEST_NAME]
    digest = hashlib.sha256(words.encode()).hexdigest()[:6]
    return f"{stage}-{plain}" if plain == words else f"{stage}-{plain}-{digest}"
