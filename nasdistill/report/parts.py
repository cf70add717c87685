"""What a page is made of: parts with a heading, each of groups of pictures and tables."""

from __future__ import annotations

from dataclasses import dataclass

from nasdistill.report.tables import Table


@dataclass(frozen=True)
class Group:
    """Pictures and a table under one heading.

    Attributes:
        pictures: SVG elements, every name in them escaped.
        note: stands before them.
        wide: the pictures need the whole width.
        gallery: they are small, and many stand beside each other.
        folded: shown after a click.
        captions: one for each picture, by which a reader chooses the one that is shown, at first the last; where there
            are none, all are.
    """

    title: str
    pictures: tuple[str, ...] = ()
    table: Table | None = None
    note: str = ""
    wide: bool = False
    gallery: bool = False
    folded: bool = False
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A heading and what stands below it.

    Attributes:
        lead: what is seen, and how to read it.
        problems: what could not be shown, in sentences.
    """

    title: str
    lead: str = ""
    groups: tuple[Group, ...] = ()
    problems: tuple[str, ...] = ()
