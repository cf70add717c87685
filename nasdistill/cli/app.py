"""All commands, put together. A new stage, also a plugin's, is a command without a word here."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, NamedTuple

import typer

from nasdistill import __doc__ as about
from nasdistill import __version__
from nasdistill.cli.components import list_components, show_component
from nasdistill.cli.general import General, with_general_options
from nasdistill.cli.networks import import_network, inspect_network
from nasdistill.cli.parameters import engine_parameters, with_parameters
from nasdistill.cli.runs import report, run
from nasdistill.cli.stage_commands import example_of, stage_command
from nasdistill.cli.tuning import EXAMPLE, tune, tune_command
from nasdistill.stages import STAGES, Stage


def build_app(general: General) -> typer.Typer:
    """The application. A command's options are made where `general.arguments` name it, as help on all needs none."""
    app = typer.Typer(
        rich_markup_mode=None,  # its tables cut long options short on a terminal of 80 columns
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )
    app.callback(help=about, epilog="Example: nasdistill run quickstart")(with_general_options(_program))
    completing = "_NASDISTILL_COMPLETE" in os.environ  # the words to complete stand in another variable
    for name, command in _commands(general).items():
        if completing or name in general.arguments:
            function, example = command.make()
            app.command(name, epilog=f"Example: {example}")(with_general_options(function))
        else:
            app.command(name, help=command.about)(_unnamed)
    return app


class Command(NamedTuple):
    """A command's help text, and what makes its function and an example of it."""

    about: str | None
    make: Callable[[], tuple[Callable[..., None], str]]


def _commands(general: General) -> dict[str, Command]:
    """The commands by name; a plugin's stage is imported only where `general.arguments` name it."""

    def ready(function: Callable[..., None], example: str) -> Command:
        return Command(function.__doc__, lambda: (function, f"nasdistill {example}"))

    run_example = "nasdistill run quickstart stages.student.epochs=20 --out runs/long"
    commands = {
        "run": Command(run.__doc__, lambda: (_run_with_engine(), run_example)),
        "tune": Command(tune.__doc__, lambda: (tune_command(), EXAMPLE)),
        "report": ready(report, "report runs/fisher runs/uniform --out comparison.html"),
    }
    for name in STAGES.names():
        if name in general.arguments or name in STAGES.loaded():
            stage = STAGES.get(name)
            command = stage.command or name
            commands[command] = Command(inspect.getdoc(stage), functools.partial(_stage, command, stage))
        else:
            commands[name] = Command("of an installed plugin; loaded when named", lambda: (_unnamed, ""))
    return commands | {
        "list": ready(list_components, "list objectives"),
        "show": ready(show_component, "show objectives kd"),
        "inspect": ready(inspect_network, "inspect wrn-40-2 --input 3x32x32 --classes 100 --json"),
        "import": ready(import_network, "import --model wrn-40-1 --weights wrn.pth --out imported"),
    }


def _stage(command: str, stage: type[Stage]) -> tuple[Callable[..., None], str]:
    return stage_command(command, stage), example_of(command, stage)


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
