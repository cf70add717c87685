"""All commands, put together. A new stage, also a plugin's, is a command without a word here."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from nasdistill import __doc__ as about
from nasdistill import __version__
from nasdistill.cli.general import General, with_general_options
from nasdistill.sources import first_line_of, read_sources

HERE = Path(__file__).parent

# By name: the module in this room, the function in it (or `<function>_command`, which makes it), and an example.
OF_RECIPES = {
    "run": ("runs", "run", "run quickstart stages.student.epochs=20 --out runs/long"),
    "tune": (
        "tuning",
        "tune",
        "tune quickstart --vary 'stages.student.objectives.1.beta=loguniform(10,3000)' --trials 12",
    ),
    "submit": (
        "submitting",
        "submit",
        "submit quickstart --sweep stages.teacher.epochs=10,20 --partition gpu --gpus 1 --time 4:00:00",
    ),
    "clean": ("cleaning", "clean", "clean runs/quickstart --dry-run"),
    "report": ("runs", "report", "report runs/fisher runs/uniform --out comparison.html"),
}
OF_COMPONENTS = {
    "list": ("components", "list_components", "list objectives"),
    "show": ("components", "show_component", "show objectives kd"),
    "inspect": ("networks", "inspect_network", "inspect wrn-40-2 --input 3x32x32 --classes 100 --json"),
    "predict": ("predicting", "predict", "predict runs/quickstart/stages/export/network.onnx photos --top 3"),
    "import": ("networks", "import_network", "import --model wrn-40-1 --weights wrn.pth --out imported"),
}


def build_app(general: General) -> typer.Typer:
    """The application. A command's options are made where `general.arguments` name it, as help on all needs none."""
    app = typer.Typer(
        rich_markup_mode=None,  # its tables cut long options short on a terminal of 80 columns
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )
    app.callback(help=about, epilog="Example: nasdistill run quickstart")(with_general_options(_program))
    completing = "_NASDISTILL_COMPLETE" in os.environ  # the words to complete stand in another variable
    for name, command in _commands().items():
        if completing or name in general.arguments:
            function, example = command.make()
            app.command(name, epilog=f"Example: {example}")(with_general_options(function))
        else:
            app.command(name, help=command.about)(_unnamed)
    return app


class Command(NamedTuple):
    """A command's help text, and what makes its function and an example of it."""

    about: str
    make: Callable[[], tuple[Callable[..., None], str]]


def _commands() -> dict[str, Command]:
    """The commands by name, from sources and entry points: what a command imports is imported where it is named."""
    stages = {
        stage.command: Command(stage.about, functools.partial(_stage, name))
        for name, stage in read_sources(HERE.parent / "stages").written.items()
    }
    for point in entry_points(group="nasdistill.stages"):
        about = "of an installed plugin; loaded when named"
        stages.setdefault(point.name, Command(about, functools.partial(_stage, point.name)))
    if "nasdistill.stages" in sys.modules:  # then a plugin may have brought some
        from nasdistill.stages import STAGES

        for name in STAGES.loaded():
            stage = STAGES.get(name)
            stages[stage.command or name] = Command(inspect.getdoc(stage) or "", functools.partial(_stage, name))
    first, last = ({name: _own(*place) for name, place in places.items()} for places in (OF_RECIPES, OF_COMPONENTS))
    return first | dict(sorted(stages.items())) | last


def _own(module: str, function: str, example: str) -> Command:
    def make() -> tuple[Callable[..., None], str]:
        found = importlib.import_module(f"nasdistill.cli.{module}")
        maker = getattr(found, f"{function}_command", None)
        return maker() if maker else getattr(found, function), f"nasdistill {example}"

    return Command(first_line_of(HERE / f"{module}.py", function), make)


def _stage(name: str) -> tuple[Callable[..., None], str]:
    from nasdistill.cli.stage_commands import example_of, stage_command
    from nasdistill.stages import STAGES

    stage = STAGES.get(name)
    command = stage.command or name
    return stage_command(command, stage), example_of(command, stage)


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
