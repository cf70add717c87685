"""Recipe text: the part of YAML that is plain data, read with the line of every value.

Tags, anchors, aliases, duplicate keys and several documents are refused: a recipe needs none of them, and each has been
a way to run code, to eat memory or to hide a mistake. Scalars follow YAML 1.2's core schema, so `1e-3` is a number and
`no` is a word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nasdistill.errors import SpecError, UnknownName, UserError
from nasdistill.numerals import number, whole_number
from nasdistill.paths import Written

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
_DEEP = f"nested more than {MAX_DEPTH} levels deep"

Key = tuple[str | int, ...]
"""The way from the top of a document to a value."""

_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


class RecipeError(UserError):
    """Something is wrong in a recipe; the sentence names its file and line.

    Attributes:
        unknown: the way to a name that nothing here goes by, if that is what is wrong.
    """

    unknown: Key | None = None


@dataclass
class Source:
    """A document as plain data, with where each value stands.

    Attributes:
        lines: one-based line by the way to the value.
        overrides: what set a value on the command line, as it was typed, by the way to the value.
    """

    file: str
    data: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    overrides: dict[Key, str] = field(default_factory=dict)

    def set(self, key: Key, shown: str) -> None:
        """Remember that the value at `key` is no longer the file's."""
        self.lines = {at: line for at, line in self.lines.items() if at[: len(key)] != key}
        self.overrides[key] = shown

    def is_override(self, key: Key) -> bool:
        """Whether the value at `key` is none of the file's."""
        return any(key[:length] in self.overrides for length in range(len(key) + 1))

    def where(self, key: Key) -> str:
        """The override that set the value at `key` or its `file:line`, else those of the nearest thing around it."""
        for length in range(len(key), -1, -1):
            if key[:length] in self.overrides:
                return self.overrides[key[:length]]
            if key[:length] in self.lines:
                return f"{self.file}:{self.lines[key[:length]]}"
        return self.file

    def address(self, key: Key) -> str:
        """The way to a value as overrides write it: a stage goes by its name, and its `with` goes without saying."""
        parts = list(key)
        if len(key) > 1 and key[0] == "stages":
            stage = self.data["stages"][key[1]]
            parts[1] = stage.get("name", key[1]) if isinstance(stage, dict) else key[1]
        if len(key) > 3 and key[0] == "stages" and key[2] == "with":
            del parts[2]
        return ".".join(str(part) for part in parts)

    def _at(self, key: Key) -> Any:
        value = self.data
        for step in key:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value

    def error(self, key: Key, problem: str) -> RecipeError:
        address, value = self.address(key), self._at(key)
        relative = isinstance(value, Written) and not os.path.isabs(os.path.expanduser(value))
        if relative and value.place and value.start != Path.cwd():
            problem += f" ({value!r} starts at {value.start})"
        return RecipeError(f"{self.where(key)}: {address}: {problem}" if address else f"{self.where(key)}: {problem}")

    def wrong(self, error: SpecError, *above: str | int) -> RecipeError:
        """As `error`, for what is wrong with the config at `above`."""
        key = (*above, *error.path)
        told = self.error(key, error.problem)
        told.unknown = key if isinstance(error, UnknownName) else None
        return told


def read_source(path: Path) -> Source:
    """Read a YAML file.

    Raises:
        RecipeError: it cannot be read, is no YAML, or uses what is refused; names the line.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise RecipeError(f"{path}: larger than {MAX_BYTES} bytes; a recipe is a page of text")
    try:
        return parse(raw.decode(), str(path))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RecipeError(f"{path}:{line}: not UTF-8 text") from None


def parse(text: str, file: str = "<text>") -> Source:
    """Parse YAML text; see `read_source`.

    A line that starts as a block, `|none~0|`, is no YAML: it is the text that it is, a cell of NAS-Bench-201.
    """
    source = Source(file)
    if re.fullmatch(r"\|.*\|", text):
        source.data, source.lines[()] = text, 1
        return source
    try:
        events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if source.lines:
                    raise RecipeError(f"{file}:{_line(event)}: a recipe is one document; remove the second '---'")
                source.lines[()] = _line(event)
                source.data = _value(next(events), events, source, ())
    except yaml.YAMLError as error:
        if (line := _too_deep(text)) is not None:  # parsers have limits of their own, each in its own words
            raise RecipeError(f"{file}:{line}: {_DEEP}") from None
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else file
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{place}: not valid YAML: {problem}") from None
    return source


def _too_deep(text: str) -> int | None:
    """The line in which more brackets are open than may be, in text that no parser took; quoted ones count too."""
    level = 0
    for bracket in re.finditer(r"[][{}]", text):
        level += 1 if bracket[0] in "[{" else -1
        if level > MAX_DEPTH:
            return text.count("\n", 0, bracket.start()) + 1
    return None


def dump(data: Any) -> str:
    """Plain data as YAML text that `parse` reads back as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """PyYAML quotes what YAML 1.1 would misread; what YAML 1.2 would misread needs quotes too."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = '"' if not text.isprintable() else None if _scalar(text) == text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _value(event: yaml.Event, events: Iterator[yaml.Event], source: Source, key: Key) -> Any:
    line = _line(event)
    source.lines.setdefault(key, line)
    here = f"{source.file}:{line}"
    if len(key) > MAX_DEPTH:
        raise RecipeError(f"{here}: {_DEEP}")
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise RecipeError(f"{here}: anchors and aliases are not allowed in a recipe; write the value out")
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise RecipeError(f"{here}: the tag {tag!r} is not allowed: a recipe is data and names no code")
    if isinstance(event, yaml.ScalarEvent):
        return event.value if event.style else _scalar(event.value)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Any] = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_value(item, events, source, (*key, len(items))))
        return items
    mapping: dict[str, Any] = {}
    while not isinstance(name := next(events), yaml.MappingEndEvent):
        at = f"{source.file}:{_line(name)}"
        if not isinstance(name, yaml.ScalarEvent) or name.tag is not None or name.anchor is not None:
            raise RecipeError(f"{at}: a key is a plain word")
        if name.value in mapping:
            raise RecipeError(f"{at}: the key {name.value!r} stands here twice")
        below = (*key, name.value)
        source.lines[below] = _line(name)
        mapping[name.value] = _value(next(events), events, source, below)
    return mapping


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _scalar(text: str) -> Any:
    """A plain (unquoted) scalar by YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    whole = whole_number(text)
    found = number(text) if whole is None else whole
    return text if found is None else found
