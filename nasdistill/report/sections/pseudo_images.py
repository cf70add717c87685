"""How pseudo-images develop, as SVG: a row per moment, images beside what student and teacher took them for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, model_validator

from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.plots import shortened
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.report.svg import Grid, Pixels, image, montage, pixels_of, svg, text, tiles

# Sizes in drawing units, which are pixels at full size.
WIDTH = 1040
MOMENT = 130  # the column with the number of pseudo-batches
IMAGES = 424
CHART = 260
SPACE = 16
HEIGHT = 44  # of a row of images, and of both networks' bars
ROW = 58
TOP = 44
LINE = 16
MOST_NAMES = 12  # of classes, that fit below their bars
TALLEST = 4  # times the share of a class where all are alike; taller bars would leave those of the others no height

_COLOURS = {"student": "var(--series-0, #0072b2)", "teacher": "var(--series-1, #c65600)"}
_BOLD = 'font-weight="600"'
_SOFT = 'style="fill: var(--soft, #5a6472)"'
_WARNING = 'font-weight="600" style="fill: var(--series-7, #8a2c5a)"'


class PseudoPicture(BaseModel):
    """What a generator made at one moment, and what was predicted since the moment before."""

    done: int = Field(ge=0, description="Pseudo-batches so far.")
    images: list[list[Grid]] = Field(min_length=1, description="A grid per channel of each image.")
    student: list[Annotated[int, Field(ge=0)]] = Field(description="How often the student predicted each class.")
    teacher: list[Annotated[int, Field(ge=0)]] = Field(description="How often the teacher predicted each class.")


class PseudoPayload(Payload):
    """`pseudo.json`: how what a generator makes up changed."""

    file = "pseudo.json"

    classes: list[str] = Field(min_length=1, description="Names of the classes.")
    pictures: list[PseudoPicture] = Field(description="In the order in which they were taken.")

    @model_validator(mode="after")
    def _of_one_kind(self) -> PseudoPayload:
        images = [image for picture in self.pictures for image in picture.images]
        kinds = {tuple((len(grid), len(grid[0])) for grid in image) for image in images}
        if len(kinds) > 1 or any(len(set(kind)) != 1 for kind in kinds):
            raise ValueError("the images must have the same channels, all of one size")
        if {len(counts) for each in self.pictures for counts in (each.student, each.teacher)} - {len(self.classes)}:
            raise ValueError(f"student and teacher must have {len(self.classes)} counts each, one per class")
        if any(later.done <= earlier.done for earlier, later in pairwise(self.pictures)):
            raise ValueError("the pictures must be in the order in which they were taken")
        return self


@SECTIONS.register("pseudo-images")
class PseudoImages(Section):
    """Pseudo-images, and the predictions of student and teacher for them."""

    title = "Pseudo-images"
    lead = (
        "Images of the generator, which seeks those where student and teacher differ, from early to late; latents are "
        "sampled anew each time. Beside them the predictions by class: of the student upwards, the teacher downwards."
    )
    payload = PseudoPayload
    place = 30

    def of_seed(self, heading: str, payload: PseudoPayload, row: Row) -> list[Group]:
        if not payload.pictures:
            return []
        last = payload.pictures[-1]
        all_of_last = f"{heading}: all {len(last.images)} images after {last.done:,} pseudo-batches"
        return [
            Group(heading, (draw_development(payload, row.collapses),), wide=True),
            Group(all_of_last, (draw_picture(last),), wide=True),
        ]


def draw_development(pseudo: PseudoPayload, collapses: Sequence[int] = ()) -> str:
    """Draw every picture as a row: some of its images, and each class's share of the predictions since the row before.

    Args:
        pseudo: with at least one picture.
        collapses: the pseudo-batches after which a collapse was named.

    Returns:
        one SVG element that stands alone or within a page.
    """
    shares = [{who: _shares(getattr(picture, who)) for who in _COLOURS} for picture in pseudo.pictures]
    highest = max(float(share.max()) for row in shares for share in row.values())
    full = min(highest or 1.0, TALLEST / len(pseudo.classes))
    chart = _Chart(MOMENT + IMAGES + SPACE, len(pseudo.classes), full)
    parts = [
        text(0, 14, "pseudo-batches", _BOLD),
        text(MOMENT, 14, "pseudo-images", _BOLD),
        text(chart.left, 14, "predictions since the row above", _BOLD),
        text(chart.left, 14 + LINE, f"{chart.scale(highest)}; dotted: all classes alike", _SOFT),
        text(chart.left + CHART + SPACE, 14, "most frequent", _BOLD),
    ]
    before = 0
    for number, (picture, share) in enumerate(zip(pseudo.pictures, shares, strict=True)):
        top = TOP + number * ROW
        parts.append(text(0, top + LINE, f"{picture.done:,}", _BOLD))
        parts += _collapses(top + 2 * LINE, [at for at in collapses if before < at <= picture.done])
        parts += [_strip(picture, top), *chart.drawn(share, top)]
        for line, (who, colour) in enumerate(_COLOURS.items()):
            most = int(share[who].argmax())
            words = f"{shortened(pseudo.classes[most], 12)}, {100 * share[who][most]:.0f} %"
            words = f"{who}: {words}"
            parts.append(text(chart.left + CHART + SPACE, top + 16 + 20 * line, words, f'style="fill: {colour}"'))
        before = picture.done
    bottom = TOP + len(pseudo.pictures) * ROW
    parts += chart.names(pseudo.classes, bottom)
    late = [at for at in collapses if at > before]
    parts += _collapses(bottom + LINE, late)
    height = bottom + max(chart.room_for_names(pseudo.classes), 2 * LINE if late else 0)
    moments = ", ".join(f"{picture.done:,}" for picture in pseudo.pictures)
    label = f"Pseudo-images after {moments} pseudo-batches, and how often student and teacher predicted each class."
    if collapses:
        label += f" Collapses after {', '.join(f'{at:,}' for at in collapses)}."
    return svg(WIDTH, height, label, parts, _wide(height, 840))


def draw_picture(picture: PseudoPicture) -> str:
    """Draw all images of one moment.

    Returns:
        one SVG element that stands alone or within a page.
    """
    pixels = tiles(_pixels(picture))
    _count, height, width, _colours = pixels.shape
    made = montage(pixels, max(1, round(16 * height / width)))
    shown = WIDTH * made.shape[0] / made.shape[1]
    label = f"{len(pixels)} pseudo-images after {picture.done:,} pseudo-batches"
    return svg(WIDTH, shown, label, [image(made, 0, 0, WIDTH, shown)], _wide(shown, 600))


class _Chart(NamedTuple):
    """Bars per class, the student's upwards and the teacher's downwards, all to one scale.

    Attributes:
        full: the share that a bar of full height stands for; larger ones are no taller.
    """

    left: float
    classes: int
    full: float

    def scale(self, highest: float) -> str:
        return f"full height: {100 * self.full:.0f} %" + (" and more" if highest > self.full else "")

    def drawn(self, shares: dict[str, np.ndarray], top: float) -> list[str]:
        middle, pitch = top + HEIGHT / 2, CHART / self.classes
        parts = []
        for sign, (who, colour) in zip((-1, 1), _COLOURS.items(), strict=True):
            bars = "".join(
                f"M{self.left + (number + 0.1) * pitch:.2f} {middle:g}V{middle + sign * self._height(share):.2f}"
                f"h{0.8 * pitch:.2f}V{middle:g}z"
                for number, share in enumerate(shares[who])
                if share
            )
            alike = middle + sign * self._height(1 / self.classes)
            parts += [f'<path d="{bars}" style="fill: {colour}"/>', self._line(alike, 'stroke-dasharray="2 3"')]
        return [*parts, self._line(middle)]

    def names(self, classes: Sequence[str], top: float) -> list[str]:
        """Below the lowest row: each class, or how many there are."""
        pitch = CHART / self.classes
        if len(classes) > MOST_NAMES:
            first, last = shortened(classes[0], 12), shortened(classes[-1], 12)
            words = f"{len(classes)} classes, {first} to {last}"
            return [text(self.left + CHART / 2, top, words, f'text-anchor="middle" {_SOFT}')]
        places = [(self.left + (number + 0.5) * pitch, shortened(name, 12)) for number, name in enumerate(classes)]
        if self.room_for_names(classes) == LINE:
            return [text(x, top, name, 'text-anchor="middle"') for x, name in places]
        turned = 'text-anchor="end" transform="rotate(-45 {:.2f} {:.2f})"'
        return [text(x + 4, top - 6, name, turned.format(x + 4, top - 6)) for x, name in places]

    def room_for_names(self, classes: Sequence[str]) -> float:
        crowded = len(classes) <= MOST_NAMES and 7 * max(map(len, classes)) > CHART / len(classes)
        return 62 if crowded else LINE

    def _height(self, share: float) -> float:
        return HEIGHT / 2 * min(share / self.full, 1.0)

    def _line(self, y: float, style: str = "") -> str:
        return (
            f'<line x1="{self.left:g}" x2="{self.left + CHART:g}" y1="{y:.2f}" y2="{y:.2f}" '
            f'style="stroke: var(--soft, #5a6472)" stroke-width="0.8" {style}/>'
        )


def _shares(counts: Sequence[int]) -> np.ndarray:
    return np.asarray(counts, dtype=float) / max(sum(counts), 1)


def _pixels(picture: PseudoPicture) -> Pixels:
    return np.stack([pixels_of(grids) for grids in picture.images])


def _strip(picture: PseudoPicture, top: float) -> str:
    """As many of the images as fit beside each other."""
    pixels = tiles(_pixels(picture))
    _count, height, width, _colours = pixels.shape
    fit = max(1, int(IMAGES / (HEIGHT * (width / height + 1 / 16))))
    made = montage(pixels[:fit], fit)
    return image(made, MOMENT, top, min(HEIGHT * made.shape[1] / made.shape[0], IMAGES), HEIGHT)


def _collapses(y: float, collapses: Sequence[int]) -> list[str]:
    if not collapses:
        return []
    words = [f"collapse at {collapses[0]:,}", *([f"and {len(collapses) - 1} more"] if len(collapses) > 1 else [])]
    return [text(0, y + number * 14, line, _WARNING) for number, line in enumerate(words)]


def _wide(height: float, narrowest: int) -> str:
    """`narrowest` is the width in pixels at which it can still be read; a narrower page scrolls it."""
    return f'width="{WIDTH}" height="{height:.0f}" style="min-width: {narrowest}px"'
