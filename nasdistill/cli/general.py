"""Options that every command has. They are read before the rest is parsed: a plugin may bring a command along."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class General:
    """What the general options say; commands find it in `typer.Context.obj`.

    Attributes:
        arguments: the whole command line, without the program's name.
    """

    arguments: tuple[str, ...]
    plugins: tuple[str, ...]
    debug: bool
    quiet: bool


def general_in(arguments: Sequence[str]) -> General:
    """The general options among `arguments`, wherever they stand."""
    return General(tuple(arguments), tuple(_plugins_in(arguments)), "--debug" in arguments, "--quiet" in arguments)


def _plugins_in(arguments: Sequence[str]) -> Iterator[str]:
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--plugin" and following:
            yield following
        elif argument.startswith("--plugin="):
            yield argument.removeprefix("--plugin=")


def declare(name: str, annotation: Any, default: Any, information: Any) -> inspect.Parameter:
    """A parameter of a command; `information` is typer's `Option` or `Argument`."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[annotation, information])


def with_parameters(
    function: Callable[..., None], parameters: Sequence[inspect.Parameter], documentation: str | None
) -> Callable[..., None]:
    """Give a function of keywords the signature and the docstring that typer reads."""
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    function.__doc__ = documentation
    return function


def _option(name: str, annotation: Any, default: Any, meaning: str, metavar: str | None = None) -> inspect.Parameter:
    information = typer.Option("--" + name, help=meaning, metavar=metavar, show_default=False)
    return declare(name, annotation, default, information)


OPTIONS = (
    _option("plugin", list[str], [], "a plugin to load, a .py file or a module; may be repeated", "<plugin>"),
    _option("quiet", bool, False, "print results and errors, but no progress"),
    _option("debug", bool, False, "show the traceback of an error"),
)


def with_general_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with `OPTIONS` in its signature, for typer to parse; their values are in `General` already."""
    names = {parameter.name for parameter in OPTIONS}

    def call(**values: Any) -> None:
        command(**{name: value for name, value in values.items() if name not in names})

    return with_parameters(
        call, [*inspect.signature(command, eval_str=True).parameters.values(), *OPTIONS], command.__doc__
    )
