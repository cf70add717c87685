"""What a component is: typed options that a recipe can name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

from annotated_types import Le, Lt
from pydantic import BaseModel, ConfigDict, model_validator

from nasdistill.errors import SpecError, found_at
from nasdistill.numerals import whole_number
from nasdistill.paths import all_located

LARGEST = 2**31 - 1
"""Of whole numbers in options: what every library below takes, and more than any of them means."""
LARGEST_SEED = 2**32 - 1
"""What numpy takes."""


@dataclass(frozen=True)
class Facts:
    """What a plan knows of the images that a stage works on, and of its network.

    Attributes:
        classes: how many.
        images: whether there is a data set.
        training: images of each class to train on; empty where there are none, or where nobody looked yet.
        validation: the same of those that select.
        read: images to train on that the files hold.
        comes_with_validation, comes_with_test: whether the files have validation or test images of their own.
        auxiliary: whether the network that is trained has an auxiliary head, if that is known. It has to be built.
    """

    classes: int
    images: bool = True
    training: tuple[int, ...] = ()
    validation: tuple[int, ...] = ()
    read: int | None = None
    comes_with_validation: bool = False
    comes_with_test: bool = False
    auxiliary: Callable[[], bool | None] = lambda: None


class Options(BaseModel):
    """Base of options that a user gives: unknown names, infinities, endless numbers and later changes are refused."""

    # Validators are built when an instance is first made: help and lists make none, and read fields alone.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _locate_paths(cls, options: Any) -> Any:
        """What a `Path` holds starts where it was written, in a field of a plug-in too."""
        if not isinstance(options, Mapping):
            return options
        found = dict(options)
        for name, accepted in cls._given(options):
            if Path in accepted and found[name] not in accepted:  # it may accept a word as well
                with found_at(name):
                    found[name] = all_located(found[name])
        return found

    @model_validator(mode="before")
    @classmethod
    def _refuse_truth_for_numbers(cls, options: Any) -> Any:
        """pydantic takes `true` for the number 1."""
        if not isinstance(options, Mapping):
            return options
        for name, accepted in cls._given(options):
            if (int in accepted or float in accepted) and bool not in accepted and Any not in accepted:
                with found_at(name):
                    refuse_truth(options[name])
        return options

    @classmethod
    def _given(cls, options: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
        """The fields among the options, each with what its annotation is made of."""
        for name in options.keys() & cls.model_fields.keys():
            annotation = cls.model_fields[name].annotation
            yield name, [annotation, *parts_of(annotation)]

    @model_validator(mode="after")
    def _bound_whole_numbers(self) -> Options:
        """A whole number is at most `LARGEST`, in a field of a plug-in too, unless its field has a bound of its own."""
        for name, info in type(self).model_fields.items():
            if not any(isinstance(bound, Le | Lt) for bound in info.metadata):
                with found_at(name):
                    refuse_endless(getattr(self, name))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        """The options that change nothing where `facts` hold, each with the reason, for a plan to warn of.

        A default that does no harm is not worth a warning, see `differs`. Options within these are asked themselves.
        """
        return iter(())

    def differs(self, *names: str) -> Iterator[str]:
        """Those of some options that have another value than by default."""
        fields = type(self).model_fields
        return (name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True))


class Component(Options):
    """Anything registered: its fields are its options, its docstring is its help.

    Subclasses set `source` to the paper, equation or code that they follow. A component is plain data until its
    kind's method is called, so it can be built from a recipe, hashed, and written to disk with `spec`.
    """

    registered_kind: ClassVar[str] = ""
    registered_name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    shorthand: ClassVar[str] = ""
    """A pattern of names that set options, a group for each that is a number: `resnet-(?P<depth>\\d+)`."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_options: Any) -> None:
        if "registered_name" not in vars(cls):
            cls.registered_name = cls.__name__  # until it is registered: messages need a name

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        """The options that a shorthand such as `wrn-40-2` stands for, or None if `text` is none of this component's.

        What `text` leaves out keeps its default.
        """
        match = re.fullmatch(cls.shorthand, text, re.IGNORECASE | re.ASCII) if cls.shorthand else None
        given = {name: digits for name, digits in match.groupdict().items() if digits} if match else {}
        numbers = {name: whole_number(digits) for name, digits in given.items()}
        return None if match is None or None in numbers.values() else numbers

    def spec(self) -> dict[str, Any]:
        """Plain data (JSON) from which this component is rebuilt: its name and its options."""
        return {"name": self.registered_name, **self.model_dump(mode="json")}

    def caveat(self) -> str | None:
        """What to know of these options before hours of work, as a sentence in a plan's warning; None if nothing."""
        return None

    def looked_up(self) -> Iterator[type[Component]]:
        """The components that it looks up by name, beside those in its fields; their code decides results as well."""
        return iter(())


def refuse_endless(value: Any) -> None:
    """Refuse plain data with a whole number beyond `LARGEST`.

    Raises:
        SpecError: with the path to it.
    """
    if isinstance(value, int) and abs(value) > LARGEST:
        raise SpecError(
            f"must be at {'most' if value > 0 else 'least'} {LARGEST if value > 0 else -LARGEST}, got {value}"
        )
    if isinstance(value, Mapping | list | tuple):
        for at, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            with found_at(at):
                refuse_endless(part)


def refuse_truth(value: Any) -> None:
    """Refuse true and false where numbers are asked for, or in a list of them.

    Raises:
        SpecError: with the path to it.
    """
    if isinstance(value, bool):
        raise SpecError(f"must be a number, got {value}")
    for at, part in enumerate(value) if isinstance(value, list | tuple) else ():
        with found_at(at):
            refuse_truth(part)


def parts_of(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of, at any depth: of `list[Path] | None` also `Path`."""
    for part in get_args(annotation):
        yield part
        yield from parts_of(part)


def listed(value: Any) -> Any:
    """One value as a list of one, before a field that takes several is validated."""
    return [value] if isinstance(value, str | int | Mapping) else value


def classes_in(value: Any) -> Iterator[type[Component]]:
    """The classes of the components that `value` holds at any depth, itself included, and of those they look up."""
    for component in components_in(value):
        yield type(component)
        yield from component.looked_up()


def components_in(value: Any) -> Iterator[Component]:
    """The components that `value` holds at any depth, itself included."""
    if isinstance(value, Component):
        yield value
    if isinstance(value, BaseModel):
        value = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        yield from components_in(part)


def caveats_in(value: Any) -> tuple[str, ...]:
    """What the components that `value` holds have to say before a run, see `Component.caveat`."""
    return tuple(filter(None, (component.caveat() for component in components_in(value))))


def idle_options(value: Any, facts: Facts, *place: str | int) -> Iterator[str]:
    """A sentence for each option without effect in what `value` holds at any depth, see `Options.without_effect`.

    Args:
        place: of the value, to stand before the options' names.
    """
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Options):
        for name, reason in value.without_effect(facts):
            yield f"{'.'.join(map(str, (*place, name)))} has no effect: {reason}"
        parts = [(field, getattr(value, field)) for field in type(value).model_fields]
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for step, part in parts:
        yield from idle_options(part, facts, *place, step)
