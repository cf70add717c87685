"""From an option of a config to an option of the command line, and back to plain data."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from nasdistill.cli.general import declare
from nasdistill.cli.names import complete_recipe, completing
from nasdistill.cli.options import Option, flag_of, options_of, type_in_words
from nasdistill.component import parts_of
from nasdistill.errors import UserError
from nasdistill.numerals import whole_number
from nasdistill.registry import ComponentOf
from nasdistill.report.points import value_in_words
from nasdistill.training.engine import EngineSettings

TYPED = (str, int, float, bool, Path)
NUMBERS = (int, float)
CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def optional(name: str, annotation: Any, meaning: str, *flags: str, **information: Any) -> inspect.Parameter:
    """An option that may be left out."""
    return declare(
        name, annotation | None, None, typer.Option(*(flags or (flag_of(name),)), help=meaning, **information)
    )


def seed_option(meaning: str) -> inspect.Parameter:
    return optional("seed", str, meaning, "--seed", "--seeds", metavar="<int,...>")


def dry_run_option(meaning: str) -> inspect.Parameter:
    return declare("dry_run", bool, False, typer.Option("--dry-run", help=meaning))


TRUST = declare(
    "trust", bool, False, typer.Option("--trust", help="say yes to the code of the recipe's plug-ins, read before")
)
RECIPE = (
    declare(
        "recipe",
        str,
        inspect.Parameter.empty,
        typer.Argument(help="a YAML file, or the name of a built-in recipe", autocompletion=complete_recipe),
    ),
    declare(
        "overrides",
        list[str] | None,
        None,
        typer.Argument(help="any value of the recipe, e.g. stages.teacher.epochs=20", metavar="KEY=VALUE"),
    ),
)


def parameter(
    option: Option,
    *,
    optional: bool = False,
    show_default: bool = True,
    completes: str | None = None,
) -> inspect.Parameter:
    """The parameter that typer makes an option of the command line from: typed where it can be, else YAML text.

    Args:
        optional: it may be left out although the config requires it.
        completes: the kind of component whose names complete it, where the option itself does not tell.
    """
    item, many = _item(option.annotation)
    simple = _is_simple(item, many)
    flag = f"{option.flag}/--no-{option.flag[2:]}" if item is bool and not many else option.flag
    kind = option.component_kind or completes
    information = typer.Option(
        flag,
        help=option.meaning + ("; may be repeated" if many else ""),
        metavar=_metavar(option, item, many),
        show_default=show_default,
        autocompletion=completing(kind) if kind else None,
    )
    kept: Any = item if simple else str
    annotation: Any = list[kept] if many else kept | None
    default: Any = inspect.Parameter.empty
    if not option.required or optional:
        default = _default(option, many, simple)
    return declare(option.name, annotation, default, information)


def _metavar(option: Option, item: Any, many: bool) -> str | None:
    """What stands for the value in the help; None leaves it to typer."""
    if _is_simple(item, many):
        return f"<{item.__name__}>" if many and item in TYPED else None
    return "<name|mapping>" if option.component_kind else f"<{type_in_words(item)}>"


def plain_value(option: Option, given: Any) -> Any:
    """What was given for an option, as a recipe would hold it."""
    item, many = _item(option.annotation)
    if _is_simple(item, many):
        return [_plain(value) for value in given] if many else _plain(given)
    if not many:
        return parse_value(given, option.flag)
    values = [parse_value(text, option.flag) for text in given]
    # the list may be given at once, as in a recipe, where its items are no lists themselves
    at_once = len(values) == 1 and isinstance(values[0], list) and get_origin(item) not in (list, tuple)
    return values[0] if at_once else values


def parse_value(text: str, what: str) -> Any:
    """Plain data from YAML flow text, as in a recipe.

    Raises:
        UserError: it is no YAML, or uses what recipes may not.
    """
    from nasdistill.recipes.source import parse

    return parse(text, what).data


def given_in(context: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that stood on the command line; all others are left to the config's own defaults."""
    sources = {name: context.get_parameter_source(name) for name in values}
    return {name: value for name, value in values.items() if (at := sources[name]) and at.name == "COMMANDLINE"}


def loggers_option() -> inspect.Parameter:
    return optional(
        "loggers",
        list[str],
        "where the curves of stages go, e.g. csv or '{name: mlflow, tracking_uri: mlruns}'; may be repeated",
        metavar="<name|mapping>",
        autocompletion=completing("loggers"),
    )


def loggers_in(given: Mapping[str, Any]) -> list[Any] | None:
    """The recipe's `loggers`; None where none were given."""
    return [parse_value(text, "--loggers") for text in given["loggers"]] if "loggers" in given else None


def overrides_in(given: Mapping[str, Any]) -> list[str]:
    """All that a command line sets in a recipe."""
    engine = [f"engine.{name}={value}" for name, value in engine_given(given).items()]
    seeds = ["seed=null", f"seeds={seeds_in(given['seed'])}"] if "seed" in given else []
    loggers = [f"loggers={json.dumps(loggers_in(given))}"] if "loggers" in given else []
    return [*given.get("overrides", ()), *engine, *seeds, *loggers]


def engine_parameters(show_default: bool = True) -> list[inspect.Parameter]:
    """The options of the engine; without defaults where a recipe has its own values."""
    return [parameter(option, optional=True, show_default=show_default) for option in options_of(EngineSettings)]


def engine_given(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in EngineSettings.model_fields if name in given}


def seeds_in(text: str) -> list[int]:
    """Seeds from `0` or `0,1,2`.

    Raises:
        UserError: something else.
    """
    found = [whole_number(part.strip()) for part in text.split(",")]
    seeds = [seed for seed in found if seed is not None]
    if len(seeds) < len(found):
        raise UserError(f"--seed takes a whole number, or several as 0,1,2; got {text!r}")
    return seeds


def _item(annotation: Any) -> tuple[Any, bool]:
    """The type of a value, or of each of several; and whether there are several."""
    if get_origin(annotation) is Annotated and not any(isinstance(part, ComponentOf) for part in parts_of(annotation)):
        return _item(get_args(annotation)[0])
    if get_origin(annotation) in (Union, type(int | str)):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return _item(inner[0]) if len(inner) == 1 else (annotation, False)
    arguments = get_args(annotation)
    if get_origin(annotation) is list or (get_origin(annotation) is tuple and arguments[-1] is Ellipsis):
        return _item(arguments[0])[0], True
    return annotation, False


def _is_simple(item: Any, many: bool) -> bool:
    # several numbers or words are YAML, so that they can be given as in a recipe too: [2, 1]
    if get_origin(item) is Literal:
        return not many
    return item in TYPED and not (many and item in NUMBERS)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _default(option: Option, many: bool, simple: bool) -> Any:
    """The default as typer shows it."""
    if many:
        return [value if simple else value_in_words(value) for value in option.default or []]
    return option.default if simple or option.default is None else value_in_words(option.default)
