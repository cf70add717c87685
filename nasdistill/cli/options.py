"""Options as people read them: the fields of a typed config, in words; help, `show` and the reference use these."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nasdistill.component import Component, parts_of
from nasdistill.registry import ComponentOf
from nasdistill.report.points import value_in_words

SIMPLE = {str: "text", int: "whole number", float: "number", bool: "yes or no", Path: "path"}


@dataclass(frozen=True)
class Option:
    """One field of a config.

    Attributes:
        annotation: the field's type, annotations of components included.
        required: whether a value must be given.
        default: plain data, None where required.
        meaning: the field's description.
        example: a value that makes sense, where the field names one.
    """

    name: str
    annotation: Any
    required: bool
    default: Any
    meaning: str
    example: Any = None

    @property
    def type(self) -> str:
        """What it accepts, in words."""
        return type_in_words(self.annotation)

    @property
    def default_text(self) -> str:
        """The default as it would be written in a recipe, or `required`."""
        return "required" if self.required else value_in_words(self.default)

    @property
    def flag(self) -> str:
        return flag_of(self.name)

    @property
    def has_parts(self) -> bool:
        """Whether it is a config of its own, whose options can be set one by one."""
        return isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)

    @property
    def component_kind(self) -> str | None:
        """The kind of the component, or of the components in the list, that this option holds."""
        return next((part.kind for part in parts_of(self.annotation) if isinstance(part, ComponentOf)), None)


def flag_of(field: str) -> str:
    """How the command line calls a field: `batch_size` is `--batch-size`."""
    return "--" + field.replace("_", "-")


def options_of(model: type[BaseModel]) -> list[Option]:
    """The fields of `model`, those that must be given first."""
    options = [
        Option(
            name=info.alias or name,
            annotation=_annotation(info),
            required=info.is_required(),
            default=None if info.is_required() else _plain(info.get_default(call_default_factory=True)),
            meaning=info.description or "",
            example=info.examples[0] if info.examples else None,
        )
        for name, info in model.model_fields.items()
    ]
    return sorted(options, key=lambda option: not option.required)


def type_in_words(annotation: Any) -> str:
    """What a type accepts, e.g. `params or flops`, `list of: text`, `whole number or none`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind = next((part.kind for part in arguments[1:] if isinstance(part, ComponentOf)), None)
        title = next((part.title for part in arguments[1:] if isinstance(part, FieldInfo) and part.title), None)
        return f"name or mapping, of {kind}" if kind else title or type_in_words(arguments[0])
    if origin is Literal:
        return " or ".join(str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_in_words(part) for part in arguments)
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return f"list of: {type_in_words(arguments[0])}"
    if origin is tuple:
        return "[" + ", ".join(type_in_words(part) for part in arguments) + "]"
    if origin in (dict, Mapping):
        return "mapping"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping with " + ", ".join(info.alias or name for name, info in annotation.model_fields.items())
    return SIMPLE.get(annotation, "any value")


def first_line(component: type[BaseModel]) -> str:
    """The first line of a docstring: what the component is."""
    return (component.__doc__ or "").strip().partition("\n")[0]


def _annotation(info: FieldInfo) -> Any:
    # pydantic takes the outermost `Annotated` apart; component annotations are put back, constraints are not shown
    kind = next((part for part in info.metadata if isinstance(part, ComponentOf)), None)
    return info.annotation if kind is None else Annotated[info.annotation, kind]


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return value.spec()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
