"""What stages leave behind, shown on the page of a run: a section for each kind of payload, one file each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from nasdistill.registry import Component, Registry
from nasdistill.report.parts import Group, Part
from nasdistill.report.payloads import Payload, by_seed
from nasdistill.report.records import Row
from nasdistill.report.summaries import StageSummary

log = logging.getLogger(__name__)

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True)
class Found(Generic[P]):
    """A stage that left a payload, with at least one seed.

    Attributes:
        to_take: whether its network is the one to take.
    """

    stage: StageSummary
    by_seed: Mapping[int, P]
    to_take: bool = False


class Section(Component):
    """Base of all sections: pictures and tables of one kind of payload, of all stages that left it.

    A subclass defines `of_seed`, or `groups` where it joins seeds or stages.
    """

    title: ClassVar[str]
    lead: ClassVar[str] = ""
    """What is seen, and how to read it."""
    payload: ClassVar[type[Payload]]
    """What is read, with the name of its file; the section is on the page where any stage left one."""
    place: ClassVar[int] = 100
    """Sections stand in this order; of equals by name."""

    def groups(self, found: Sequence[Found[Any]]) -> Sequence[Group]:
        """What is shown of the stages found, at least one, in order; all seeds of a stage but the first are folded."""
        shown = []
        for each in found:
            rows = [row for row in each.stage.rows if row.seed in each.by_seed]
            for number, row in enumerate(rows):
                heading = each.stage.stage if len(each.stage.rows) == 1 else f"{each.stage.stage}, seed {row.seed}"
                of_seed = self.of_seed(heading, each.by_seed[row.seed], row)
                shown += [replace(group, folded=number > 0) for group in of_seed]
        return shown

    def of_seed(self, heading: str, payload: Any, row: Row) -> Sequence[Group]:
        """What is shown of one stage with one seed.

        Args:
            heading: the stage, and of several seeds the seed.
            row: its results.
        """
        raise NotImplementedError(type(self).__name__)


SECTIONS: Registry[Section] = Registry("sections", Section, "nasdistill.report.sections")


def sections(stages: Sequence[StageSummary], take: StageSummary | None = None) -> list[Part]:
    """Every section that has something to show. One that fails is a sentence on the page, and costs no other.

    Args:
        take: the stage whose network is to be taken, where one is.
    """
    parts = [_part(name, stages, take) for name in SECTIONS.names()]
    return [part for _place, part in sorted(parts, key=lambda placed: placed[0]) if part.groups or part.problems]


def _part(name: str, stages: Sequence[StageSummary], take: StageSummary | None) -> tuple[int, Part]:
    problems: list[str] = []
    try:
        section = SECTIONS.parse(name)
        found = [Found(stage, by_seed(section.payload, stage.rows, problems), stage == take) for stage in stages]
        found = [each for each in found if each.by_seed]
        groups = tuple(section.groups(found)) if found else ()
        return section.place, Part(section.title, section.lead if groups else "", groups, tuple(problems))
    except Exception as error:  # a plug-in may fail in any way, and a payload may hold what nobody foresaw
        log.warning("the section %r is left out of the report: %s", name, error)
        why = f"The section {name!r} cannot be drawn: {type(error).__name__}: {error}."
        return Section.place, Part(name.capitalize(), problems=(*problems, why))
