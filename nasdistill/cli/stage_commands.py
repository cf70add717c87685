"""One command per stage, its options made from the fields of the stage's config and written nowhere else."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from nasdistill.cli.general import General, declare, with_parameters
from nasdistill.cli.going_on import RESUME_FROM, as_begun
from nasdistill.cli.names import completing
from nasdistill.cli.options import Option, flag_of, options_of
from nasdistill.cli.parameters import (
    CONTEXT,
    engine_given,
    engine_parameters,
    given_in,
    loggers_in,
    loggers_option,
    optional,
    parameter,
    parse_value,
    plain_value,
    seed_option,
    seeds_in,
)
from nasdistill.cli.runs import execute
from nasdistill.errors import UserError
from nasdistill.registry import registry
from nasdistill.report.points import value_in_words
from nasdistill.stages import Stage
from nasdistill.stages.base import STAGES, references
from nasdistill.training.engine import EngineSettings

WORDS = ("first", "second", "third")


def _data_parameter(default: str) -> inspect.Parameter:
    return optional(
        "data",
        str,
        f"data set, by name or as '{{name: image-folder, root: photos}}'; {default} if left out",
        metavar="<name|mapping>",
        autocompletion=completing("datasets"),
    )


SHARED = (
    optional("data_root", Path, "folder of the data set"),
    seed_option("seed of all random numbers; several as 0,1,2 repeat the work and report the spread"),
    optional("out", Path, "folder of the run; runs/<name> if left out"),
    loggers_option(),
    optional(
        "assignments",
        list[str],
        "any option by its path, e.g. optimizer.lr=0.05 or data.limit=100; may be repeated",
        "--set",
        metavar="<key=value>",
    ),
)


def stage_command(name: str, stage: type[Stage]) -> Callable[..., None]:
    """The command of a stage, ready for typer: what was given becomes a recipe of one stage, and is run.

    Options whose names the command line has for all stages (`--data`, `--seed`, ...) are reached with `--set`.
    """
    taken = {"data", *(shared.name for shared in SHARED), *EngineSettings.model_fields}
    options = [option for option in options_of(stage) if option.name not in taken]
    read = references(stage)
    positional = _positional(stage)
    goes_on = RESUME_FROM in stage.model_fields

    def call(context: typer.Context, **values: Any) -> None:
        given = given_in(context, values)
        for field in positional:
            if _word(field) not in given:
                continue
            if field in given:
                both = f"{given[field]!r} and {given[_word(field)]!r}"
                raise UserError(f"{name}: {flag_of(field)} is given twice: {both}")
            given[field] = given[_word(field)]
        config = {option.name: plain_value(option, given[option.name]) for option in options if option.name in given}
        for place, field in zip(WORDS, positional, strict=False):
            if field not in config and not given.get("assignments"):
                raise UserError(f"{name} needs {flag_of(field)}, which may also be its {place} word without the flag")
        _run(stage.registered_name, config, options, given, context.obj)

    parameters = [
        parameter(
            option,
            optional=option.name in positional or goes_on or option.has_parts,
            completes="models" if option.name in read and read[option.name].or_model else None,
        )
        for option in options
    ]
    words = [_argument(option) for field in positional for option in options if option.name == field]
    everything = [CONTEXT, *words, *parameters, _data_parameter(stage.default_data), *SHARED, *engine_parameters()]
    return with_parameters(call, everything, inspect.getdoc(stage))


def _run(name: str, config: dict[str, Any], options: Sequence[Option], given: dict[str, Any], general: General) -> None:
    from nasdistill.recipes.loading import recipe_of_stage
    from nasdistill.recipes.sweep import Sweep

    settings = {
        "data": _data(given, STAGES.get(name).default_data),
        "engine": engine_given(given) or None,
        "seeds": seeds_in(given["seed"]) if "seed" in given else None,
        "loggers": loggers_in(given),
    }
    given_settings = {key: value for key, value in settings.items() if value is not None}
    if config.get(RESUME_FROM) is not None:
        begun = as_begun(Path(config[RESUME_FROM]))
        config, given_settings = {**begun.options, **config}, {**begun.settings, **given_settings}
    assignments = given.get("assignments", [])
    recipe = recipe_of_stage(name, config, overrides=assignments, plugins=general.plugins, **given_settings)
    execute(Sweep.of(recipe), given.get("out"), general)


def _data(given: dict[str, Any], default: str) -> Any:
    """The recipe's `data`; None where neither `--data` nor `--data-root` was given."""
    if "data" not in given and "data_root" not in given:
        return None
    data = parse_value(given.get("data", default), "--data")
    if "data_root" not in given:
        return data
    return {**(data if isinstance(data, dict) else {"name": data}), "root": str(given["data_root"])}


def _positional(stage: type[Stage]) -> tuple[str, ...]:
    """The fields that need no flags: those that the stage names, or the one that reads a network and must be given."""
    required = tuple(name for name in references(stage) if stage.model_fields[name].is_required())
    return stage.positional or (required if len(required) == 1 else ())


def _word(field: str) -> str:
    return f"positional_{field}"


def _argument(option: Option) -> inspect.Parameter:
    kept = list[str] if get_origin(option.annotation) is list else str
    information = typer.Argument(help=f"the same as {option.flag}", metavar=option.name.upper(), show_default=False)
    return declare(_word(option.name), kept | None, None, information)


def example_of(name: str, stage: type[Stage]) -> str:
    """A command line that could be typed, with what the stage cannot do without and the examples that it gives."""
    words = ["nasdistill", name]
    for option in options_of(stage):
        if option.required and option.name in stage.positional:
            words += option.example if isinstance(option.example, list) else [_example_value(option, stage)]
        elif option.required or option.example is not None:
            words += [option.flag, _example_value(option, stage)]
    return shlex.join([*words, "--data", stage.default_data] if stage.reads_data else words)


def _example_value(option: Option, stage: type[Stage]) -> str:
    if option.example is not None:
        return value_in_words(option.example)
    reference = references(stage).get(option.name)
    if reference is not None:
        return "wrn-16-1" if reference.or_model else "runs/train/stages/train"
    if option.component_kind is not None:
        return next(iter(registry(option.component_kind).names()), "NAME")
    if get_origin(option.annotation) is Literal:
        return str(get_args(option.annotation)[0])
    return {int: "1", float: "1.0", bool: "true"}.get(option.annotation, option.name.upper())
