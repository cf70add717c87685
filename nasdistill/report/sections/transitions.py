"""Two networks while test images are changed from class to class."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pydantic import BaseModel, Field, model_validator

from nasdistill.report import plots, tables
from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.summaries import summarise


class Paths(BaseModel):
    """Means over paths from test images to other classes, a value per step."""

    paths: int = Field(gt=0, description="How many.")
    student: list[float] = Field(min_length=1, description="How sure the student is of the class that is walked to.")
    teacher: list[float] = Field(min_length=1, description="How sure the teacher is of it.")
    error: list[float] = Field(min_length=1, description="How far the two are apart.")

    @model_validator(mode="after")
    def _of_one_length(self) -> Paths:
        if len({len(self.student), len(self.teacher), len(self.error)}) != 1:
            raise ValueError("the curves must be of one length")
        return self


class PathsToClass(Paths):
    """Those that lead to one class."""

    label: str = Field(description="Its name.")


class TransitionPayload(Paths, Payload):
    """`transition.json`: two networks while images are changed from class to class."""

    file = "transition.json"

    classes: list[PathsToClass] = Field(description="The same by the class that is walked to.")


@SECTIONS.register("transitions")
class Transitions(Section):
    """Probabilities of student and teacher on paths to another class."""

    title = "Across decision boundaries"
    lead = (
        "Test images that both networks take for the same class are changed along the student's gradient until it "
        "takes them for another: how sure both are of that other class, mean over images and classes. The mean "
        "transition error is how far the two are apart, mean over steps as well: 0 where they never differ, at most 1."
    )
    payload = TransitionPayload
    place = 80

    def groups(self, found: Sequence[Found[TransitionPayload]]) -> list[Group]:
        pictures, by_class = [], []
        for each in found:
            name, seeds = each.stage.stage, list(each.by_seed.values())
            curves = {who: [list(enumerate(getattr(seed, who))) for seed in seeds] for who in ("teacher", "student")}
            pictures.append(plots.lines(curves, name, "step", "probability", probabilities=True))
            by_class.append(Group(f"{name}, by class", table=_by_class(seeds), folded=True))
        return [Group("", tuple(pictures), tables.comparisons([each.stage for each in found])), *by_class]


def _by_class(found: Sequence[TransitionPayload]) -> tables.Table:
    """A line per class that is walked to: the error, and how sure both networks are of it in the end."""
    lines: dict[str, list[PathsToClass]] = {}
    for each in (each for transition in found for each in transition.classes):
        lines.setdefault(each.label, []).append(each)
    rows = []
    for label, several in lines.items():
        values = ((statistics.fmean(each.error), each.student[-1], each.teacher[-1]) for each in several)
        cells = (tables.over_seeds(summarise(of_seeds), 4) for of_seeds in zip(*values, strict=True))
        rows.append((tables.Cell(label), *cells))
    return tables.Table(("to class", "transition error", "student, last step", "teacher, last step"), tuple(rows))
