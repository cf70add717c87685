"""Attention maps as SVG: a test image, beside it the maps of a network, its teachers, and the same network untaught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html import escape

import matplotlib
import numpy as np
from pydantic import BaseModel, Field, model_validator

from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.plots import shortened
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.summaries import summarise
from nasdistill.report.svg import Grid, Pixels, image, pixels_of, svg, text
from nasdistill.report.tables import Cell, Table, over_seeds
from nasdistill.training.waves import traced

COLOURS = "viridis"  # lightness rises evenly, so that it reads without colour as well

# Sizes in drawing units, which are pixels at full size.
TILE = 64
GAP = 6
IMAGE = 2 * TILE + GAP
NAMES = 22  # for the names of the rows, which are written upwards
UPWARDS = 10  # letters of such a name, which is as long as a tile is high
LINE = 18


class AttentionImage(BaseModel):
    """A test image and what networks took it for."""

    index: int = Field(ge=0, description="Its place in the test set.")
    label: str = Field(description="Its class.")
    student: str = Field(description="What the student took it for.")
    teachers: list[str] = Field(description="What each teacher took it for; none where there was no teacher.")
    pixels: list[Grid] = Field(min_length=1, description="A grid per channel, all of one size.")

    @model_validator(mode="after")
    def _one_size(self) -> AttentionImage:
        if len({(len(grid), len(grid[0])) for grid in self.pixels}) != 1:
            raise ValueError("the channels must be of one size")
        return self


class AttentionPair(BaseModel):
    """A point of the student, beside one of a teacher if it has any."""

    student: str = Field(description="Module path in the student.")
    teacher: str | None = Field(description="Module path in the teacher.")
    number: int | None = Field(ge=0, description="Which teacher, from 0.")
    similarity: float | None = Field(description="Mean cosine of the two maps over test images.")
    maps: list[list[Grid]] = Field(description="Per image the student's map, and the teacher's if there is one.")

    @model_validator(mode="after")
    def _alone_or_beside_a_teacher(self) -> AttentionPair:
        given = [value is not None for value in (self.teacher, self.number, self.similarity)]
        if len(set(given)) != 1 or {len(grids) for grids in self.maps} - {1 + given[0]}:
            raise ValueError("a point must have a teacher's with its number, similarity and maps, or none of them")
        return self


class AttentionPayload(Payload):
    """`attention.json`: attention maps of a network, and of its teachers if it has any."""

    file = "attention.json"

    images: list[AttentionImage] = Field(min_length=1, description="The images that are shown.")
    pairs: list[AttentionPair] = Field(min_length=1, description="The points whose maps are shown.")
    without: dict[str, AttentionPayload] = Field(
        {}, description="The same network trained without a teacher, by stage, on the same images; the report adds it."
    )

    @model_validator(mode="after")
    def _complete(self) -> AttentionPayload:
        if any(len(pair.maps) != len(self.images) for pair in self.pairs):
            raise ValueError(f"each pair must have {len(self.images)} pairs of maps, one per image")
        teachers = {len(image.teachers) for image in self.images}
        if len(teachers) != 1 or any((-1 if p.number is None else p.number) >= max(teachers) for p in self.pairs):
            raise ValueError("the images and the pairs must speak of the same teachers")
        return self

    @property
    def places(self) -> list[int]:
        """Of the images in the test set."""
        return [image.index for image in self.images]

    @property
    def taught(self) -> bool:
        return bool(self.images[0].teachers)


@SECTIONS.register("attention-maps")
class AttentionMaps(Section):
    """Attention maps of student and teachers."""

    title = "Attention maps"
    lead = (
        "Beside each test image the attention maps of student and teacher, from early to late: energy per place, dark "
        "where there is none, bright where a map has most. Below them stand the maps of the same network trained "
        "without a teacher, where a stage did so. The similarity is the mean cosine of student's and teacher's maps "
        "over up to 500 test images: 1 where they are the same, and never below 0."
    )
    payload = AttentionPayload
    place = 70

    def groups(self, found: Sequence[Found[AttentionPayload]]) -> list[Group]:
        taught = [each for each in found if any(attention.taught for attention in each.by_seed.values())]
        beside = {each.stage.stage: [other for other in found if _is_twin(other, each)] for each in taught}
        elsewhere = [other.stage.stage for others in beside.values() for other in others]
        elsewhere += [
            each.stage.stage for each in found if any(one.stage.reads(each.stage, "teacher") for one in taught)
        ]
        pictures = [
            replace(each, by_seed=_with_twins(each, beside.get(each.stage.stage, ())))
            for each in found
            if each in taught or each.stage.stage not in elsewhere
        ]
        return [*super().groups(pictures), *_similarities(taught)]

    def of_seed(self, heading: str, payload: AttentionPayload, row: Row) -> list[Group]:
        return [Group(heading, tuple(draw_attention(payload, number) for number in range(len(payload.images))))]


def _is_twin(other: Found[AttentionPayload], taught: Found[AttentionPayload]) -> bool:
    """Whether `other` shows a network of the same size on the same images without a teacher, and is not the teacher."""
    alone = not any(attention.taught for attention in other.by_seed.values())
    seeds = other.by_seed.keys() & taught.by_seed.keys()
    same = any(other.by_seed[seed].places == taught.by_seed[seed].places for seed in seeds)
    return alone and same and other.stage.same_size(taught.stage) and not taught.stage.reads(other.stage, "teacher")


def _with_twins(each: Found[AttentionPayload], twins: Sequence[Found[AttentionPayload]]) -> dict[int, AttentionPayload]:
    """By seed what a stage left, with what its twins left of the same images."""
    found = {}
    for seed, attention in each.by_seed.items():
        beside = {twin.stage.stage: twin.by_seed[seed] for twin in twins if seed in twin.by_seed}
        same = {name: other for name, other in beside.items() if other.places == attention.places}
        found[seed] = attention.model_copy(update={"without": same})
    return found


def _similarities(taught: Sequence[Found[AttentionPayload]]) -> list[Group]:
    """The table of how alike students and their teachers are; nothing where nobody was taught."""
    alike: dict[tuple[str, str, str], list[float]] = {}
    for each in taught:
        for attention in each.by_seed.values():
            names = teacher_names(attention)
            for pair in attention.pairs:
                if pair.teacher is not None and pair.number is not None and pair.similarity is not None:
                    theirs = pair.teacher if len(names) == 1 else f"{names[pair.number]}: {pair.teacher}"
                    alike.setdefault((each.stage.stage, pair.student, theirs), []).append(pair.similarity)
    header = ("stage", "student's module", "teacher's module", "similarity")
    rows = tuple((*map(Cell, names), over_seeds(summarise(values), 3)) for names, values in alike.items())
    return [Group("Similarity of attention maps", table=Table(header, rows, words=3))] if rows else []


def draw_attention(attention: AttentionPayload, number: int) -> str:
    """Draw an image and the maps of all networks: a column per point of the student, a row per network.

    Args:
        number: of the image, from 0.

    Returns:
        one SVG element that stands alone or within a page.
    """
    shown = attention.images[number]
    tiles = _tiles(attention, number)
    columns = 1 + max(column for column, _row in tiles)
    student = "student" if attention.taught else "network"
    answers = [*zip((student, *teacher_names(attention)), (shown.student, *shown.teachers), strict=True)]
    answers += [(shortened(name), other.images[number].student) for name, other in attention.without.items()]
    top = LINE * (len(answers) + 2)
    width = IMAGE + NAMES + columns * (TILE + GAP) - GAP
    height = top + max(IMAGE, len(answers) * (TILE + GAP) - GAP)

    parts = [text(0, 15, shortened(shown.label), 'font-size="15" font-weight="600"')]
    for row, (network, answer) in enumerate(answers):
        x, middle = IMAGE + NAMES - 7, top + row * (TILE + GAP) + TILE / 2
        parts += [
            _answer(LINE * (row + 2) - 3, network, answer, answer == shown.label),
            text(x, middle, shortened(network, UPWARDS), f'text-anchor="middle" transform="rotate(-90 {x} {middle})"'),
        ]
    pixels = pixels_of(shown.pixels)
    if pixels.shape[1] == 1:  # a waveform
        pixels = traced(pixels, IMAGE, IMAGE)
    parts.append(_picture(np.moveaxis(pixels, 0, -1), 0, top, IMAGE))
    for (column, row), grid in tiles.items():
        x, y = IMAGE + NAMES + column * (TILE + GAP), top + row * (TILE + GAP)
        if row == 0:
            size = f"{len(grid)}x{len(grid[0])}"
            parts.append(text(x + TILE / 2, top - 6, size, 'text-anchor="middle"'))
        parts.append(_picture(pixels_of([grid])[0], x, y, TILE))

    answered = ", ".join(f"the {network} predicts {answer}" for network, answer in answers[: 1 + len(shown.teachers)])
    answered += "".join(
        f", without a teacher {name} predicts {answer}" for name, answer in answers[1 + len(shown.teachers) :]
    )
    label = f"A test image of class {shown.label}: {answered}. Beside it their attention maps, {columns} of each."
    return svg(width, height, label, parts)


def teacher_names(attention: AttentionPayload) -> list[str]:
    """What the teachers are called: by their number where there are several."""
    count = len(attention.images[0].teachers)
    return ["teacher"] if count == 1 else [f"teacher {number + 1}" for number in range(count)]


def _tiles(attention: AttentionPayload, number: int) -> dict[tuple[int, int], list[bytes]]:
    """The maps by (column, row): teachers share the column of a point of the student that all of them are beside."""
    columns: dict[tuple[str, int], int] = {}
    times: Counter[tuple[int | None, str]] = Counter()  # a teacher may have several points beside one of the student
    tiles: dict[tuple[int, int], list[bytes]] = {}
    for pair in attention.pairs:
        point = pair.student, times[pair.number, pair.student]
        times[pair.number, pair.student] += 1
        column = columns.setdefault(point, len(columns))
        tiles[column, 0], *theirs = pair.maps[number]
        if pair.number is not None:
            (tiles[column, 1 + pair.number],) = theirs
    for row, other in enumerate(attention.without.values(), 1 + len(teacher_names(attention))):
        for pair in other.pairs:
            if (pair.student, 0) in columns:
                tiles[columns[pair.student, 0], row] = pair.maps[number][0]
    return tiles


def _answer(y: float, network: str, answer: str, right: bool) -> str:
    colour, mark = (
        ("var(--series-2, #00805c)", "\N{CHECK MARK}")
        if right
        else ("var(--series-1, #c65600)", "\N{MULTIPLICATION X}")
    )
    return (
        f'<text x="0" y="{y}">{escape(network)} predicts {escape(shortened(answer))} '
        f'<tspan style="fill: {colour}" font-weight="600">{mark}</tspan></text>'
    )


def _picture(values: Pixels, x: float, y: float, side: float) -> str:
    """Pixels of 0 to 255 in a square: colours, [H, W, 3], grey values, [H, W, 1], or a map, [H, W], in its palette.

    A map of one row fills the square, so that its places stand below those of the waveform.
    """
    stretched = 'preserveAspectRatio="none"' if len(values) == 1 else ""
    if values.ndim == 2:
        values = matplotlib.colormaps[COLOURS](values, bytes=True)
    elif values.shape[2] != 3:
        values = np.repeat(values[:, :, :1], 3, axis=2)
    return image(values, x, y, side, side, stretched)
