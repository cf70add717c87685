"""Files of texts, a text and its label on each line: which cells of a line are what, and which lines are none."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasdistill.errors import UserError, nearest

Column = str | int
Columns = tuple[Column, Column]
"""Where label and text are: names in a header, or numbers from 1 on."""
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "intent", "y")
TEXT_NAMES = ("text", "sentence", "content", "review", "message", "question", "document", "utterance", "x")
FASTTEXT = "__label__"
_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass
class Lines:
    """The labels and texts of a file, in its order.

    Attributes:
        bad: number of each line that is none of them to what is wrong with it.
    """

    labels: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)

    def at(self, places: Sequence[int]) -> Lines:
        return Lines([self.labels[place] for place in places], [self.texts[place] for place in places])


def read_lines(path: Path, encoding: str, columns: Columns | None) -> Lines:
    """The lines of a file: `.csv` with commas; others with tabs if the first line has one, else the label comes first.

    A first line with names of columns is a header. Where neither it nor `columns` tells, the first cell is the label
    and the others are the text. Blank lines count for nothing.

    Raises:
        UserError: the file has another encoding, or lacks a column.
    """
    lines = Lines()
    rows = _rows(path, encoding, lines)
    first = next(rows, None)
    if first is None and lines.bad:
        return lines
    if first is None:
        raise UserError(f"{path} holds no text")
    places = _places(path, first[1], columns)
    if places is None or not _is_header(first[1], places, columns):
        _add(lines, *first, places)
    for number, cells in rows:
        _add(lines, number, cells, places)
    return lines


def _rows(path: Path, encoding: str, lines: Lines) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line that is not blank and can be decoded."""
    try:
        # Of bytes that are no text just their lines are lost; UTF-8 may begin with a mark.
        content = path.read_bytes().decode("utf-8-sig" if encoding == "utf-8" else encoding, "surrogateescape")
    except UnicodeError as error:
        raise UserError(f"{path} is not encoded in {encoding}: {error}") from None
    content = content.replace("\r\n", "\n").replace("\r", "\n")
    if path.suffix.lower() == ".csv":
        yield from _comma_separated(content, lines)
        return
    tabs: bool | None = None
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        tabs = "\t" in line if tabs is None else tabs
        if _UNDECODED.search(line):
            lines.bad[number] = (
                f"it is not encoded in {encoding}; data.encoding names another encoding, such as latin-1"
            )
        elif tabs and "\t" not in line:
            lines.bad[number] = "it has no tab between label and text"
        else:
            yield number, line.split("\t") if tabs else line.split(maxsplit=1)


def _comma_separated(content: str, lines: Lines) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            lines.bad[number] = str(error)
            continue
        if cells is None:
            return
        if _UNDECODED.search("".join(cells)):
            lines.bad[number] = "it is not UTF-8; data.encoding names another encoding, such as latin-1"
        elif any(cell.strip() for cell in cells):
            yield number, cells


def _places(path: Path, first: Sequence[str], columns: Columns | None) -> tuple[int, int] | None:
    """The places of label and text, from 0 on; None where the label comes first and all else is the text."""
    header = [cell.strip().lower() for cell in first]
    if columns is None:
        label, text = (
            next((header.index(name) for name in names if name in header), None) for names in (LABEL_NAMES, TEXT_NAMES)
        )
        return None if label is None or text is None else (label, text)
    places = []
    for column in columns:
        if isinstance(column, int):
            places.append(column - 1)
        elif column.lower() in header:
            places.append(header.index(column.lower()))
        else:
            guess = nearest(column, header)
            hint = f"; did you mean {guess!r}?" if guess else ""
            raise UserError(f"the first line of {path} has no column {column!r}{hint} (it has {', '.join(header[:8])})")
    return places[0], places[1]


def _is_header(first: Sequence[str], places: tuple[int, int], columns: Columns | None) -> bool:
    """Whether the first line names columns: it must where `columns` does, and may have the usual names elsewhere."""
    if columns is None or any(isinstance(column, str) for column in columns):
        return True
    named = [first[place].strip().lower() if place < len(first) else "" for place in places]
    return named[0] in LABEL_NAMES and named[1] in TEXT_NAMES


def _add(lines: Lines, number: int, cells: Sequence[str], places: tuple[int, int] | None) -> None:
    if places is None:
        label, text = cells[0], " ".join(cells[1:])
    elif max(places) >= len(cells):
        lines.bad[number] = f"it has {len(cells)} columns, and column {max(places) + 1} is wanted"
        return
    else:
        label, text = (cells[place] for place in places)
    label = unicodedata.normalize("NFC", label.strip().removeprefix(FASTTEXT))
    if not label or not text.strip():
        lines.bad[number] = "it has no label" if not label else "it has a label and no text"
        return
    if text.lstrip().startswith(FASTTEXT):
        lines.bad[number] = "it has several labels"
        return
    lines.labels.append(label)
    lines.texts.append(text)
