"""`nasdistill run` and `nasdistill report`, and what every command that runs a recipe shares."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasdistill.cli.general import General
from nasdistill.cli.names import complete_recipe
from nasdistill.cli.parameters import given_in
from nasdistill.cli.stage_commands import engine_given, seeds_in

if TYPE_CHECKING:
    from nasdistill.recipes.loading import Recipe

RUNS = Path("runs")


def run(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(help="a YAML file, or the name of one that comes along", autocompletion=complete_recipe),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="any value of the recipe, e.g. stages.teacher.epochs=20", metavar="KEY=VALUE"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan: stages, inputs, what is done")] = False,
    out: Annotated[Path | None, typer.Option(help="folder of the run; runs/<name> if left out")] = None,
    seed: Annotated[
        str | None,
        typer.Option("--seed", "--seeds", help="instead of the recipe's; several as 0,1,2", metavar="<int,...>"),
    ] = None,
    **engine: Any,
) -> None:
    """Run a recipe: the stages not done yet, then the report.

    A run that was stopped, in whatever way, goes on where it was when the same command is given again.
    """
    from nasdistill.recipes.loading import load_recipe

    general: General = context.obj
    settings = engine_given(given_in(context, engine))
    assignments = [*(overrides or []), *(f"engine.{name}={value}" for name, value in settings.items())]
    if seed is not None:
        assignments += ["seed=null", f"seeds={seeds_in(seed)}"]
    loaded = load_recipe(recipe, assignments, general.plugins)
    if dry_run:
        show_plan(loaded, out or default_folder(loaded))
    else:
        execute(loaded, out, general)


def execute(recipe: Recipe, out: Path | None, general: General) -> None:
    """Run a recipe and show what came out."""
    from nasdistill.cli.tables import show, show_results
    from nasdistill.recipes import runner

    folder = out or default_folder(recipe)
    record = runner.run(recipe, folder, shlex.join(["nasdistill", *general.arguments]))
    show_results(record.rows)
    show(f"report: {folder / 'report.html'}")


def show_plan(recipe: Recipe, out: Path) -> None:
    """Print what a run would do."""
    from nasdistill.cli.tables import show, show_table
    from nasdistill.recipes import runner

    planned = runner.plan(recipe, out)
    rows = [
        (
            stage.name,
            stage.uses,
            str(stage.seed),
            ", ".join(f"{field}: {name}" for field, name in stage.inputs.items()) or "-",
            "done, cached" if stage.cached else "to do",
        )
        for stage in planned
    ]
    show(f"{recipe.settings.name}, in {out}")
    show_table(("stage", "uses", "seed", "inputs", "state"), rows, words=5)


def default_folder(recipe: Recipe) -> Path:
    return RUNS / recipe.settings.name


def report(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs", metavar="RUN...", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="the page to write; RUN/report.html or comparison.html if left out")
    ] = None,
) -> None:
    """Join runs into one comparison, as a page and a table.

    Of a single run, the page is written again.
    """
    from nasdistill.cli.tables import show, show_results
    from nasdistill.report.page import write_comparison, write_report
    from nasdistill.report.results import load_run

    records = [load_run(folder) for folder in runs]
    if len(records) == 1:
        page = out or runs[0] / "report.html"
        write_report(records[0], page)
    else:
        page = out or Path("comparison.html")
        write_comparison(records, page)
    for folder, record in zip(runs, records, strict=True):
        show(f"{record.name}, in {folder}")
        show_results(record.rows)
    show(f"report: {page}")
