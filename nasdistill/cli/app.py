"""All commands, put together. A new stage, also a plugin's, is a command without a word here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from nasdistill import __doc__ as about
from nasdistill import __version__
from nasdistill.cli.components import list_components, show_component
from nasdistill.cli.general import General, with_general_options
from nasdistill.cli.networks import import_network, inspect_network
from nasdistill.cli.parameters import engine_parameters, with_parameters
from nasdistill.cli.runs import report, run
from nasdistill.cli.stage_commands import example_of, stage_command
from nasdistill.cli.tuning import EXAMPLE, tune_command
from nasdistill.stages import STAGES


def build_app(general: General) -> typer.Typer:
    """The application; a plugin's stage is imported only where `general.arguments` name it."""
    app = typer.Typer(
        rich_markup_mode=None,  # its tables cut long options short on a terminal of 80 columns
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )
    app.callback(help=about, epilog="Example: nasdistill run quickstart")(with_general_options(_program))
    _add(app, "run", _run_with_engine(), "nasdistill run quickstart stages.student.epochs=20 --out runs/long")
    _add(app, "tune", tune_command(), EXAMPLE)
    _add(app, "report", report, "nasdistill report runs/fisher runs/uniform --out comparison.html")
    for name in STAGES.names():
        if name in general.arguments or name in STAGES.loaded():
            stage = STAGES.get(name)
            command = stage.command or name
            _add(app, command, stage_command(command, stage), example_of(command, stage))
        else:
            app.command(name, help="of an installed plugin; loaded when named")(_unnamed)
    _add(app, "list", list_components, "nasdistill list objectives")
    _add(app, "show", show_component, "nasdistill show objectives kd")
    _add(app, "inspect", inspect_network, "nasdistill inspect wrn-40-2 --input 3x32x32 --classes 100 --json")
    _add(app, "import", import_network, "nasdistill import --model wrn-40-1 --weights wrn.pth --out imported")
    return app


def _add(app: typer.Typer, name: str, command: Callable[..., None], example: str) -> None:
    app.command(name, epilog=f"Example: {example}")(with_general_options(command))


def _run_with_engine() -> Callable[..., None]:
    own = [
        parameter for name, parameter in inspect.signature(run, eval_str=True).parameters.items() if name != "engine"
    ]

    def call(**values: object) -> None:
        run(**values)  # type: ignore[arg-type]

    return with_parameters(call, [*own, *engine_parameters(show_default=False)], run.__doc__)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What belongs to no command."""


def _unnamed() -> None:
    """Never called: a stage that is named on the command line is loaded, and has a command of its own."""
