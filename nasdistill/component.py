"""What a component is: typed options that a recipe can name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of options that a user gives: unknown names, infinities and later changes are refused."""

    # Validators are built when an instance is first made: help and lists make none, and read fields alone.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Component(Options):
    """Anything registered: its fields are its options, its docstring says what it is.

    Subclasses set `source` to the paper, equation or code that they follow. A component is plain data until its
    kind's method is called, so it can be built from a recipe, hashed, and written to disk with `spec`.
    """

    registered_kind: ClassVar[str] = ""
    registered_name: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **_options: Any) -> None:
        if "registered_name" not in vars(cls):
            cls.registered_name = cls.__name__  # until it is registered: messages need a name

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        """The options that a shorthand such as `wrn-40-2` stands for, or None if `text` is none of this component's."""
        return None

    def spec(self) -> dict[str, Any]:
        """Plain data (JSON) from which this component is rebuilt: its name and its options."""
        return {"name": self.registered_name, **self.model_dump(mode="json")}

    def looked_up(self) -> Iterator[type[Component]]:
        """The components that it looks up by name, beside those in its fields; their code decides results as well."""
        return iter(())


def classes_in(value: Any) -> Iterator[type[Component]]:
    """The classes of the components that `value` holds at any depth, itself included, and of those they look up."""
    if isinstance(value, Component):
        yield type(value)
        yield from value.looked_up()
    if isinstance(value, BaseModel):
        value = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        yield from classes_in(part)
