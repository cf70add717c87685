"""The mistakes that a network is surest of: the picture, what it is, and what it was taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import numpy as np
from pydantic import BaseModel, Field

from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.plots import shortened
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.svg import Grid, image, pixels_of, svg, text, tiles
from nasdistill.words import whole

TILE, LINE = 104, 16
"""In drawing units, which are pixels."""
LETTERS = 17


class Mistake(BaseModel):
    """An image that was taken for another class than its own."""

    index: int = Field(ge=0, description="Its place in its part of the data set.")
    label: str = Field(description="Its class.")
    answer: str = Field(description="What it was taken for.")
    confidence: float = Field(ge=0, le=1.0001, description="How sure the network was of that.")
    pixels: list[Grid] = Field(min_length=1, description="A grid per channel, all of one size.")


class MistakesPayload(Payload):
    """`mistakes.json`: the wrong answers that a network is surest of."""

    file = "mistakes.json"

    images: int = Field(ge=1, description="How many the network was asked for.")
    wrong: int = Field(ge=0, description="How many of them it got wrong.")
    worst: list[Mistake] = Field(description="The surest first.")


@SECTIONS.register("mistakes")
class Mistakes(Section):
    """Test images that a network is wrong about, the surest first."""

    title = "Worst mistakes"
    lead = (
        "Test images that are taken for another class, those first of which the network is surest: below each its "
        "class, and in colour what it is taken for and how surely."
    )
    payload = MistakesPayload
    place = 7

    def groups(self, found: Sequence[Found[MistakesPayload]]) -> list[Group]:
        """The network to take first; the others are folded."""
        ordered = sorted(found, key=lambda each: not each.to_take)
        groups = [
            group
            for each in ordered
            for number, (seed, mistakes) in enumerate(each.by_seed.items())
            for group in _groups(each.stage.stage + (f", seed {seed}" if len(each.by_seed) > 1 else ""), mistakes)
            if mistakes.worst or not number
        ]
        return [replace(group, folded=number > 0) for number, group in enumerate(groups)]


def _groups(heading: str, mistakes: MistakesPayload) -> list[Group]:
    count = f"{whole(mistakes.wrong)} of {whole(mistakes.images)} are wrong"
    return [Group(heading, tuple(map(_drawn, mistakes.worst)), note=f"{count}.", gallery=True)]


def _drawn(mistake: Mistake) -> str:
    pixels = tiles(pixels_of(mistake.pixels)[np.newaxis])[0]
    height, width = pixels.shape[:2]
    scale = TILE / max(height, width)
    sure = f"{mistake.confidence:.0%}"
    words = f"{mistake.label}, taken for {mistake.answer}, {sure} sure: image {mistake.index}"
    answer = f"{shortened(mistake.answer, LETTERS - 5)} {sure}"
    return svg(
        TILE,
        TILE + 2 * LINE + 4,
        words,
        [
            f"<title>{escape(words)}</title>",
            image(pixels, (TILE - scale * width) / 2, (TILE - scale * height) / 2, scale * width, scale * height),
            text(0, TILE + LINE, shortened(mistake.label, LETTERS), 'font-weight="600"'),
            text(0, TILE + 2 * LINE, answer, 'fill="var(--series-1, #c65600)"'),
        ],
    )
