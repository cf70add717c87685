"""What runs and experiments came to, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from nasdistill.cli.tables import show, show_table
from nasdistill.report import exports, search_tables, sweeps, tables, trial_tables
from nasdistill.report.chance import chance_in_words
from nasdistill.report.experiments import Experiment
from nasdistill.report.payloads import by_seed
from nasdistill.report.records import Row, RunRecord
from nasdistill.report.sections import Found, scores, truth
from nasdistill.report.summaries import by_stage


def show_results(rows: Sequence[Row]) -> None:
    """One line per stage: accuracy, size and time, over all seeds, and whether earlier runs had done it.

    Below that one per exported file and one per stage that compared two networks, a table for each that scored
    untrained ones or has cells that a benchmark knows, and one of all searches of such cells.
    """
    stages = by_stage(rows)
    table = tables.results(stages)
    lines = [(*cells, tables.Cell(_cached(stage.rows))) for cells, stage in zip(table.rows, stages, strict=True)]
    show_cells(tables.Table((*table.header, "cached"), tuple(lines), table.words))
    for further in (exports.table(stages), tables.comparisons(stages)):
        if further is not None:
            show_cells(further)
    for stage in stages:
        for scored in by_seed(scores.ScoresPayload, stage.rows).values():
            show_cells(scores.table(scored))
    known = [Found(stage, true) for stage in stages if (true := by_seed(truth.TruthPayload, stage.rows))]
    searches = search_tables.compared(known)
    if searches:
        show_cells(search_tables.side_by_side(searches))
    for each in known:
        if each not in searches:
            show_cells(truth.table(each.by_seed))


def show_sweep(record: RunRecord) -> None:
    """The points of a sweep joined into one table, and the grid of two swept keys."""
    for group in sweeps.part(record).groups:
        if group.table is not None:
            show(group.title)
            show_cells(group.table)


def show_experiment(experiment: Experiment) -> None:
    """One line per trial, best first, whether they differ by more than chance, and why trials failed."""
    show_cells(trial_tables.trials(experiment))
    if words := chance_in_words(experiment.trials):
        show(words)
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
