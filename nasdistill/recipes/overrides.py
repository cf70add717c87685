"""Values of a recipe that were set from outside its file: overrides, a point of a sweep, settings of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nasdistill.errors import nearest, unknown
from nasdistill.numerals import whole_number
from nasdistill.paths import starting_at
from nasdistill.recipes.schema import RecipeFile
from nasdistill.recipes.source import Key, RecipeError, Source, parse
from nasdistill.stages import STAGES


def override(source: Source, text: str, shown: str) -> None:
    """Set one value of the document from text, e.g. `stages.teacher.epochs=20`.

    Args:
        shown: what to call `text` in an error.
    """
    dotted, equals, value_text = text.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"{shown}: write it as key.path=value")
    assign(source, dotted, _typed(value_text, shown), shown)


def _typed(text: str, shown: str) -> Any:
    """A value as YAML; or as it is, where several lines are none, as of a genotype with comments in it."""
    try:
        return parse(text, shown).data
    except RecipeError:
        if "\n" in text.strip():
            return text
        raise


def set_up(source: Source, name: str, setting: Any) -> None:
    """Set one setting of an experiment, as the options of `nasdistill tune` do; keys that vary join the recipe's."""
    section = source.data.get("tune")
    if not isinstance(section, dict):
        section = source.data["tune"] = {}
    varied = section.get("vary")
    if name == "vary":
        setting = {**(varied if isinstance(varied, dict) else {}), **setting}
    section[name] = starting_at(Path.cwd(), setting)
    # an option that is repeated has the name of one of its values
    option = name.removesuffix("s") if isinstance(setting, list) else name
    source.set(("tune", name), f"--{option.replace('_', '-')}")


def each_path(dotted: str) -> list[str]:
    """The paths that a key stands for: `stages.a,b.epochs` is that of both stages."""
    first, *rest = dotted.split(".")
    if first != "stages" or not rest:
        return [dotted]
    return [".".join([first, name, *rest[1:]]) for name in rest[0].split(",")]


def replaced(key: str, by: str) -> bool:
    """Whether what was set at a key is lost once another is set: at that one's paths, or inside of them."""
    return any(f"{path}.".startswith(f"{outer}.") for path in each_path(key) for outer in each_path(by))


def assign(source: Source, dotted: str, value: Any, shown: str) -> None:
    """Set the value at each path of a key; see `each_path`."""
    for path in each_path(dotted):
        # a copy for each, because what is set at a longer key lands inside
        _assign_at(source, path, starting_at(Path.cwd(), value), shown)


def _assign_at(source: Source, dotted: str, value: Any, shown: str) -> None:
    """Set the value at a path such as `stages.teacher.epochs`; stages are addressed by name."""
    parts = dotted.split(".")
    key: list[str | int] = []
    current: Any = source.data
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        step = _step(current, key, part, shown)
        key += step
        for at in step[:-1]:
            current = current.setdefault(at, {}) if isinstance(current, dict) else current[at]
        target: Any = step[-1]
        if not isinstance(current, dict | list) or (isinstance(current, list) and not isinstance(target, int)):
            raise RecipeError(f"{shown}: there is nothing below {source.address(tuple(key[:-1]))!r}")
        if last:
            current[target] = value
            source.set(tuple(key), shown)
            return
        inner = current.get(target) if isinstance(current, dict) else current[target]
        if inner is None:
            source.set(tuple(key), shown)
            inner = _default_at(source.data, tuple(key))
        # A component given by its name alone gets options: `digits` becomes `{name: digits, ...}`.
        if inner is None or isinstance(inner, str):
            inner = {} if inner is None else {"name": inner}
        current[target] = inner
        current = inner


def _default_at(data: Any, key: Key) -> Any:
    """The default of a recipe's or a stage's option, of which an override can change a part; None if it has none."""
    model: type[BaseModel] | None = RecipeFile if len(key) == 1 else None
    if len(key) == 4 and key[0] == "stages":
        uses = data["stages"][key[1]].get("uses")
        model = STAGES.get(uses) if uses in STAGES.names() else None
    if model is None or key[-1] not in model.model_fields:
        return None
    default = model.model_fields[str(key[-1])].get_default(call_default_factory=True)
    return list(default) if isinstance(default, list | tuple) else default if isinstance(default, str) else None


def _step(current: Any, key: list[str | int], part: str, shown: str) -> list[str | int]:
    """The keys that one part of an override's path stands for."""
    if key == ["stages"]:
        if not isinstance(current, list):
            raise RecipeError(f"{shown}: the recipe's stages are no list")
        names = {str(stage.get("name")): at for at, stage in enumerate(current) if isinstance(stage, dict)}
        if part not in names:
            raise RecipeError(f"{shown}: {unknown('stage', part, names)}")
        return [names[part]]
    if len(key) == 2 and key[0] == "stages" and part not in ("name", "uses", "with", "artifact"):
        return ["with", part]
    if isinstance(current, list):
        index = whole_number(part)
        if index is None or not 0 <= index < len(current):
            guess = nearest(part, [str(index) for index in range(len(current))])
            hint = f"; did you mean {guess}?" if guess else ""
            raise RecipeError(f"{shown}: {part!r} is no index of a list of {len(current)}{hint}")
        return [index]
    if not isinstance(current, dict):
        raise RecipeError(f"{shown}: there is nothing below {'.'.join(map(str, key))!r}")
    return [part]
