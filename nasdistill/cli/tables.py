"""Tables in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from nasdistill.cli.streams import inert

WIDTH_OF_A_FILE = 240  # where the output is no terminal, lines are not broken at 80 columns


def show(text: str = "") -> None:
    """Print lines as they are: no markup, no colours, no line breaks of our own."""
    print(inert(text), flush=True)


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> None:
    """Print a table; the first `words` columns hold words, the others numbers."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
    table = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(Text(inert(name)), justify="left" if index < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(inert(text)) for text in row))
    console.print(table)
