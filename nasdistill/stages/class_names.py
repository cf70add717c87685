"""The classes of a trained network and those of the data: the same names are mapped, other names are refused."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from nasdistill.component import Options
from nasdistill.errors import SpecError
from nasdistill.stages.base import Place, in_words, path_of

if TYPE_CHECKING:
    from nasdistill.models.base import NetworkSpec

Labels = tuple[str, ...]
"""The names of the classes, in order."""
Matching = Literal["by-name", "by-position"]
SHOWN = 5
"""Names that a message lists at most."""


class MatchesClasses(Options):
    """A mixin of stages that read trained networks."""

    classes: Matching = Field(
        "by-name",
        description="how the classes of a trained network are found among the data's: by-name maps them from any order "
        "and refuses other names, by-position takes the first for the first and so on, whatever their names",
    )


class ClassMatch(NamedTuple):
    """How the outputs of a network become those for the data's classes.

    Attributes:
        outputs: their numbers in the data's order; None where they stand in it already.
        told: what a user should know of it, if anything.
    """

    outputs: tuple[int, ...] | None
    told: str | None


def match_classes(
    field: Place, value: object, spec: NetworkSpec, names: Labels | None, classes: Matching | None
) -> ClassMatch:
    """Find the data's classes in a trained network that knows as many, or more by their names.

    Args:
        names: of the data's classes, or whatever else decides their order; None where nobody knows any.
        classes: see `MatchesClasses`; None, by name, for a stage without that option.

    Raises:
        SpecError: at the field: the network was trained on other classes.
    """
    who = f"the {in_words(field)} {value!r}"
    if names is None or spec.labels in (None, names):  # without names there is only the order
        return ClassMatch(None, None)
    theirs, ours = names_in_words(spec.labels), names_in_words(names)
    if classes == "by-position":
        return ClassMatch(None, f"the classes of {who} are taken by position: {theirs} for {ours}")
    places = places_of(names, spec.labels)
    if places is None:
        theirs, ours = (names_in_words(*each) for each in _that_differ(spec.labels, names))
        unless = "; `classes: by-position` takes them for each other in their order" if classes else ""
        raise SpecError(f"{who} was trained on the classes {theirs}, those here are {ours}{unless}", path_of(field))
    if places == tuple(range(spec.classes)):
        return ClassMatch(None, f"the classes of {who}, {theirs}, are taken for {ours}")
    return ClassMatch(places, f"the outputs of {who}, for {theirs}, are mapped to {ours}")


def places_of(wanted: Labels, known: Labels) -> tuple[int, ...] | None:
    """Where each of the wanted names stands among the known ones; None where one is not there.

    Names are the same by their letters; or in any case and Unicode form, as file systems change both, where no two of
    one side become equal by that.
    """
    for form in (str, _in_any_case):
        ours, theirs = ([form(name) for name in names] for names in (wanted, known))
        if len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs) and set(ours) <= set(theirs):
            return tuple(theirs.index(name) for name in ours)
    return None


def _in_any_case(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _that_differ(*sides: Labels) -> list[tuple[Labels, int]]:
    """Of each side the names, of many those that the other one has not; and how many there are."""
    few = max(map(len, sides)) <= SHOWN
    return [
        (side if few else tuple(name for name in side if name not in other) or side, len(side))
        for side, other in zip(sides, reversed(sides), strict=True)
    ]


def names_in_words(names: Labels, of: int | None = None) -> str:
    """`'ant', 'bee'`, and of many the first and how many there are."""
    shown = ", ".join(map(repr, names[:SHOWN]))
    count = of or len(names)
    return shown if len(names) == count <= SHOWN else f"{shown}{', ...' if len(names) > SHOWN else ''} (of {count})"
