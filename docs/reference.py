"""Write the reference: one page per kind of component, one for recipes, one for programs, from the code."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

import nasdistill.api
from nasdistill.cli.options import options_of
from nasdistill.recipes.schema import RecipeFile, StageEntry
from nasdistill.registry import KINDS, Component, registry
from nasdistill.training.engine import EngineSettings


def write_reference(folder: Path) -> None:
    """Write `recipe.md`, `api.md` and a page per kind into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "recipe.md", _recipe())
    _write(folder / "api.md", _api())
    for kind in KINDS:
        _write(folder / f"{kind}.md", _kind(kind))


def _write(path: Path, lines: Iterator[str]) -> None:
    """Write only what changed, so that Sphinx reads only that again."""
    text = "\n".join(lines) + "\n"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _recipe() -> Iterator[str]:
    yield "# Recipe"
    yield ""
    yield "The keys of a recipe file. Keys that are not listed are errors. Below `with` stand the options of the stage"
    yield "that `uses` names, see [stages](stages.md); `nasdistill run RECIPE key.path=value` overrides any of them."
    for title, model in (("Top level", RecipeFile), ("One item of `stages`", StageEntry), ("`engine`", EngineSettings)):
        yield ""
        yield f"## {title}"
        yield ""
        yield from _options(model)


def _api() -> Iterator[str]:
    yield "# Programs and notebooks"
    yield ""
    yield _text(inspect.getdoc(nasdistill.api) or "")
    for name in nasdistill.api.__all__:
        found = getattr(nasdistill.api, name)
        if not (inspect.isclass(found) or inspect.isfunction(found)):
            continue
        yield ""
        yield f"## {name}"
        yield ""
        if inspect.isfunction(found):
            given = inspect.signature(found).parameters.values()
            listed = [str(each.replace(annotation=each.empty)) for each in given if each.kind != each.KEYWORD_ONLY]
            yield f"`{name}({', '.join([*listed, *(['**options'] if hasattr(found, 'options') else [])])})`"
            yield ""
        yield _text(inspect.getdoc(found) or "")
        if hasattr(found, "options"):
            yield ""
            yield from _options(found.options)


def _kind(kind: str) -> Iterator[str]:
    components = registry(kind)
    yield f"# {kind.replace('-', ' ').capitalize()}"
    yield ""
    yield _text((sys.modules[components.base.__module__].__doc__ or "").strip().partition("\n")[0])
    for name in components.names():
        yield ""
        yield f"## {name}"
        yield ""
        yield from _component(components.get(name))


def _component(component: type[Component]) -> Iterator[str]:
    yield _text(inspect.getdoc(component) or "")
    if component.source:
        yield ""
        yield f"Source: {_text(component.source)}"
    yield ""
    yield from _options(component)


def _options(model: type[BaseModel]) -> Iterator[str]:
    options = options_of(model)
    if not options:
        yield "No options."
        return
    yield "| option | type | default | meaning |"
    yield "|---|---|---|---|"
    for option in options:
        default = option.default_text if option.required else f"`{option.default_text}`"
        yield f"| `{option.name}` | {_cell(option.type)} | {default} | {_cell(option.meaning)} |"


def _cell(text: str) -> str:
    return _text(text).replace("|", r"\|").replace("\n", " ")


def _text(text: str) -> str:
    """Plain text in Markdown: what stands between backticks is code already, the rest is escaped."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]{}$#])", r"\\\1", part) for part in parts)
