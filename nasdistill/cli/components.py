"""`nasdistill list` and `nasdistill show`: every component with its options, types, defaults, meaning and source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated

import typer

from nasdistill.cli.names import complete_kind, completing
from nasdistill.cli.options import first_line, options_of
from nasdistill.errors import UserError
from nasdistill.registry import KINDS, Component, Origin, Registry, kinds, plugins, registry
from nasdistill.versions import BUILT_IN


def complete_name(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the kind that was typed before."""
    kind = context.params.get("kind")
    return completing(kind)(incomplete) if kind in kinds() else []


def list_components(
    kind: Annotated[str | None, typer.Argument(help=f"one of {', '.join(KINDS)}", autocompletion=complete_kind)] = None,
) -> None:
    """List all components, or those of a kind.

    Each with its description and origin. Plugins that do not load are listed with their error.
    """
    from nasdistill.cli.tables import show, show_table

    for one in [registry(kind)] if kind else _all_kinds():
        show(one.kind)
        show_table(("name", "what it is", "from"), [_row(one, name) for name in one.names()], words=3)
    if plugins.broken:
        show("plugins that did not load")
        show_table(("plugin", "error"), list(plugins.broken.items()), words=2)


def show_component(
    kind: Annotated[str, typer.Argument(help=f"one of {', '.join(KINDS)}", autocompletion=complete_kind)],
    name: Annotated[str, typer.Argument(help="as `nasdistill list` names it", autocompletion=complete_name)],
) -> None:
    """Show a component with its options and source.

    Every option with its type, default and meaning, and the paper or code that the component follows.
    """
    from nasdistill.cli.tables import show, show_table

    components = registry(kind)
    component = components.get(name)
    show(f"{components.singular} {name}")
    show()
    show(_documentation(component))
    show()
    if component.source:
        show(f"source: {component.source}")
    show(f"from: {_words(components.origin(name))}")
    options = options_of(component)
    if options:
        rows = [(option.name, option.type, option.default_text, option.meaning) for option in options]
        show_table(("option", "type", "default", "meaning"), rows, words=4)
    else:
        show("no options")


def _all_kinds() -> Iterator[Registry[Component]]:
    for kind in kinds():
        with suppress(UserError):  # told at the end
            yield registry(kind)


def _row(components: Registry[Component], name: str) -> tuple[str, str, str]:
    if written := components.sources.written.get(name):  # no need to import it, and torch
        return name, written.about, BUILT_IN
    try:
        component = components.get(name)
    except UserError as error:
        return name, f"does not load: {error}", "plugin"
    return name, first_line(component), _words(components.origin(name))


def _words(origin: Origin) -> str:
    return f"{origin.name} {origin.version[:19]}".strip()


def _documentation(component: type[Component]) -> str:
    from inspect import getdoc

    return getdoc(component) or ""
