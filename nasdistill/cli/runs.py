"""`nasdistill run` and `nasdistill report`, and what every command that runs a recipe shares."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasdistill.cli.consent import show_passed_over, trust_of
from nasdistill.cli.general import General, with_parameters
from nasdistill.cli.parameters import (
    CONTEXT,
    RECIPE,
    TRUST,
    dry_run_option,
    engine_parameters,
    given_in,
    loggers_option,
    optional,
    overrides_in,
    seed_option,
)
from nasdistill.errors import UserError
from nasdistill.interrupts import polite_stops
from nasdistill.training.launch import is_first_process

if TYPE_CHECKING:
    from nasdistill.recipes.loading import Recipe
    from nasdistill.recipes.sweep import Sweep

log = logging.getLogger(__name__)

RUNS = Path("runs")
OUT = optional("out", Path, "folder of the run; runs/<name> if left out")
SWEEP = optional(
    "sweep",
    list[str],
    "run with each of these values, e.g. stages.teacher.epochs=10,20; may be repeated for a grid",
    metavar="<key=value,...>",
)

ONLY = optional(
    "only",
    list[str],
    "of a recipe that sweeps by itself, these values of one of its axes, e.g. loss=kd,dkd; may be repeated",
    metavar="<name=value,...>",
)


def run_command() -> Callable[..., None]:
    """The command `run`, ready for typer."""

    def call(context: typer.Context, **values: Any) -> None:
        run(given_in(context, values), context.obj)

    options = [
        TRUST,
        dry_run_option("print the plan: stages, inputs, what is done"),
        OUT,
        seed_option("instead of the recipe's; several as 0,1,2"),
        loggers_option(),
        SWEEP,
        ONLY,
    ]
    return with_parameters(call, [CONTEXT, *RECIPE, *options, *engine_parameters(show_default=False)], run.__doc__)


def run(given: dict[str, Any], general: General) -> None:
    """Run a recipe: the stages not done yet, then the report.

    A run that was stopped, in whatever way, goes on where it was when the same command is given again.
    """
    from nasdistill.recipes.sweep import load_sweep

    swept, only = given.get("sweep", ()), given.get("only", ())
    loaded = load_sweep(given["recipe"], overrides_in(given), general.plugins, swept, trust_of(given), only)
    if "dry_run" in given:
        show_plan(loaded, given.get("out") or default_folder(loaded.recipe))
    else:
        execute(loaded, given.get("out"), general)


def execute(sweep: Sweep, out: Path | None, general: General) -> None:
    """Run a recipe at each of its points and show what came out."""
    from nasdistill.cli.results import show_results, show_sweep
    from nasdistill.cli.tables import show
    from nasdistill.recipes import runner
    from nasdistill.report.exports import how_to_ask
    from nasdistill.report.summaries import by_stage
    from nasdistill.report.sweeps import to_take

    folder = out or default_folder(sweep.recipe)
    with polite_stops():
        if not is_first_process():
            runner.follow(sweep, folder)
            return
        record = runner.run(sweep, folder, shlex.join(["nasdistill", *general.arguments]))
    show_results(record.rows)
    if record.sweep:
        show_sweep(record)
        show(f"tables: {folder / 'sweep.md'}, {folder / 'sweep.csv'}")
    if ask := how_to_ask(by_stage(record.rows), to_take(record)):
        show(f"ask it: {ask}")
    show(f"report: {folder / 'report.html'}")


def show_plan(sweep: Sweep, out: Path) -> None:
    """Print what a run would do."""
    from nasdistill.cli.tables import show, show_table
    from nasdistill.recipes import runner
    from nasdistill.recipes.place import check_run
    from nasdistill.report.points import in_words

    check_run(sweep, out)
    planned = runner.plan(sweep, out)
    rows = [
        (
            stage.name + (f", {in_words(stage.point)}" if stage.point else ""),
            stage.uses,
            str(stage.seed),
            ", ".join(f"{field}: {name}" for field, name in stage.inputs.items()) or "-",
            "done, cached" if stage.cached else "to do",
        )
        for stage in planned
    ]
    rows += [(name, uses, "-", "-", "not looked at") for name, uses in sweep.recipe.unseen.items()]
    to_do = sum(not stage.cached for stage in planned)
    show_passed_over(sweep.recipe)
    points = f"{len(sweep.points)} points, " if sweep.grid else ""
    show(f"{sweep.recipe.settings.name}, in {out}: {points}{to_do} of {len(planned)} stages to do")
    show_table(("stage", "uses", "seed", "inputs", "state"), rows, words=5)


def default_folder(recipe: Recipe) -> Path:
    return RUNS / recipe.settings.name


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="folders of finished runs, or of one experiment", metavar="RUN...", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option(help="the page to write; RUN/report.html or comparison.html if left out")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="a file for all results as CSV, a row for each stage and seed, with its origin")
    ] = None,
) -> None:
    """Join runs into one comparison, as a page and a table.

    Of a single run or experiment, the page and the tables are written again.
    """
    from nasdistill.cli.results import show_experiment, show_results, show_sweep
    from nasdistill.cli.tables import show
    from nasdistill.recipes.lock import run_lock
    from nasdistill.report.experiment_page import write_experiment
    from nasdistill.report.experiments import EXPERIMENT, load_experiment
    from nasdistill.report.page import write_comparison, write_report
    from nasdistill.report.page_file import REPORT, check_page
    from nasdistill.report.results import load_run, warn_of_damage
    from nasdistill.report.rows import write_rows
    from nasdistill.report.sweeps import write_sweep

    once = list({folder.resolve(): folder for folder in runs}.values())
    if len(once) < len(runs):
        log.warning("a run that is named twice is read once")
    runs = once
    experiments = [folder for folder in runs if (folder / EXPERIMENT).is_file()]
    if experiments and len(runs) > 1:
        raise UserError(f"{experiments[0]} is an experiment, which has a report of its own: runs alone are compared")
    if experiments and csv is not None:
        raise UserError(
            f"{experiments[0]} is an experiment, whose trials are rows in its trials.csv; --csv is for runs"
        )
    page = out or (runs[0] / REPORT if len(runs) == 1 else Path("comparison.html"))
    check_page(page)
    # A page elsewhere needs nothing of the run's folder but to be read.
    alone = nullcontext() if out or len(runs) > 1 else run_lock(runs[0])
    if experiments:
        experiment = load_experiment(runs[0])
        with alone:
            write_experiment(experiment, runs[0], out)
        show(f"{experiment.name}, in {runs[0]}")
        show_experiment(experiment)
        show(f"report: {page}")
        return
    records = [load_run(folder) for folder in runs]
    for folder in runs:
        warn_of_damage(folder)
    with alone:
        if len(records) > 1:
            write_comparison(records, page)
        else:
            write_report(records[0], page)
            if out is None:
                write_sweep(records[0], runs[0])
    if csv is not None:
        write_rows(records, csv)
    for folder, record in zip(runs, records, strict=True):
        show(f"{record.name}, in {folder}")
        show_results(record.rows)
        if record.sweep:
            show_sweep(record)
    show(f"report: {page}")
