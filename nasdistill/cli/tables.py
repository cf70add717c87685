"""Tables in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from nasdistill.cli.streams import inert
from nasdistill.report import sweeps, tables, trial_tables
from nasdistill.report.experiments import Experiment
from nasdistill.report.records import Row, RunRecord
from nasdistill.report.summaries import by_stage

WIDTH_OF_A_FILE = 240  # where the output is no terminal, lines are not broken at 80 columns


def show(text: str = "") -> None:
    """Print lines as they are: no markup, no colours, no line breaks of our own."""
    print(inert(text), flush=True)


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> None:
    """Print a table; the first `words` columns hold words, the others numbers."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
    table = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(inert(text)) for text in row))
    console.print(table)


def show_results(rows: Sequence[Row]) -> None:
    """One line per stage: accuracy, size and time, over all seeds, and whether earlier runs had done it.

    Below that one per stage that compared two networks, if there are any.
    """
    stages = by_stage(rows)
    table = tables.results(stages)
    lines = [(*cells, tables.Cell(_cached(stage.rows))) for cells, stage in zip(table.rows, stages, strict=True)]
    show_cells(tables.Table((*table.header, "cached"), tuple(lines), table.words))
    compared = tables.comparisons(stages)
    if compared is not None:
        show_cells(compared)


def show_sweep(record: RunRecord) -> None:
    """The points of a sweep joined into one table, and the grid of two swept keys."""
    for group in sweeps.part(record).groups:
        if group.table is not None:
            show(group.title)
            show_cells(group.table)


def show_experiment(experiment: Experiment) -> None:
    """One line per trial, best first, and why trials failed."""
    show_cells(trial_tables.trials(experiment))
    failures = trial_tables.failures(experiment)
    if failures is not None:
        show_cells(failures)


def show_cells(table: tables.Table) -> None:
    """Print a table of the report; a cell's detail goes below its text."""
    lines = [["\n".join(filter(None, (cell.text, cell.detail))) for cell in row] for row in table.rows]
    show_table(table.header, lines, table.words)


def _cached(rows: Sequence[Row]) -> str:
    count = sum(row.cached for row in rows)
    if count in (0, len(rows)):
        return "yes" if count else "no"
    return f"{count} of {len(rows)}"
