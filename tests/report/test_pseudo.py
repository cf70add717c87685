"""Pseudo-images over time: what the file must hold, and what the picture shows of it."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nasdistill.errors import DamagedFile
from nasdistill.report import payloads
from nasdistill.report.sections.pseudo_images import PseudoPayload, draw_development, draw_picture
from nasdistill.report.svg import LARGEST, tiles
from nasdistill.training.waves import traced

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</text><script>alert("1")</script>&'
DIGITS = [str(digit) for digit in range(10)]


def content_of(
    images: list[np.ndarray], counts: list[tuple[list[int], list[int]]], classes: list[str]
) -> dict[str, Any]:
    """The file as plain data: a picture every 50 pseudo-batches; images are uint8, [N, C, H, W]."""
    return {
        "classes": classes,
        "pictures": [
            {
                "done": 50 * (number + 1),
                "images": [[[bytes(row).hex() for row in grid] for grid in image] for image in pixels.tolist()],
                "student": student,
                "teacher": teacher,
            }
            for number, (pixels, (student, teacher)) in enumerate(zip(images, counts, strict=True))
        ],
    }


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


GREY = [noise(4, 1, 3, 2), 255 - noise(4, 1, 3, 2)]
COUNTS = [([30, 10, 0], [20, 10, 10]), ([14, 13, 13], [13, 13, 14])]
CONTENT = content_of(GREY, COUNTS, ["cat", "dog", "bird"])


def pseudo(content: dict[str, Any] = CONTENT) -> PseudoPayload:
    return PseudoPayload.model_validate(copy.deepcopy(content))


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314


def pictures_of(root: ElementTree.Element) -> list[np.ndarray]:
    """The pixels of every picture, [H, W, 4], from top to bottom."""
    found = sorted(root.iter(f"{SVG}image"), key=lambda element: float(element.attrib["y"]))
    data = [element.attrib["href"].removeprefix("data:image/png;base64,") for element in found]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in data]


def texts_of(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def bars_of(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """Where each bar begins and how far it goes up (or, negative, down): student and teacher of every row."""
    pattern = r"M([\d.]+) ([\d.]+)V([\d.]+)h[\d.]+V[\d.]+z"
    return [
        [(float(x), float(base) - float(end)) for x, base, end in re.findall(pattern, path.attrib["d"])]
        for path in root.iter(f"{SVG}path")
    ]


def test_every_moment_is_a_row_of_images() -> None:
    shown = pictures_of(parsed(draw_development(pseudo())))
    assert len(shown) == 2
    for made, images in zip(shown, GREY, strict=True):
        assert made.shape == (3, 4 * 2 + 3, 4)  # four images of 3x2 and a column between them
        for number, image in enumerate(images):
            tile = made[:, 3 * number : 3 * number + 2]
            np.testing.assert_array_equal(tile[..., :3], np.repeat(image[0][..., None], 3, axis=2))
            assert (tile[..., 3] == 255).all()
        assert (made[:, 2::3, 3] == 0).all()  # nothing is seen between them


def test_only_images_that_fit_stand_in_a_row_and_all_in_the_grid_of_the_last() -> None:
    images = noise(32, 3, 16, 16)
    given = pseudo(content_of([images], [([1], [1])], ["a"]))
    (row,) = pictures_of(parsed(draw_development(given)))
    shown = (row.shape[1] + 1) // 17
    assert 8 <= shown < 32
    np.testing.assert_array_equal(row[:, :16, :3], np.moveaxis(images[0], 0, -1))
    (grid,) = pictures_of(parsed(draw_picture(given.pictures[-1])))
    assert grid.shape == (2 * 16 + 1, 16 * 16 + 15, 4)
    np.testing.assert_array_equal(grid[17:, -16:, :3], np.moveaxis(images[31], 0, -1))


def test_bars_are_the_shares_of_the_answers() -> None:
    """All to one scale, which the row of the student's 75 % of cats sets; no bar for a class never answered."""
    root = parsed(draw_development(pseudo()))
    heights = [[height for _, height in bars] for bars in bars_of(root)]
    shares = [0.75, 0.25], [0.5, 0.25, 0.25], [0.35, 0.325, 0.325], [0.325, 0.325, 0.35]
    for found, expected, sign in zip(heights, shares, (1, -1, 1, -1), strict=True):
        assert found == pytest.approx([sign * 22 * share / 0.75 for share in expected], abs=0.02)
    assert "full height: 75 %; dotted: all classes alike" in texts_of(root)
    assert "student: cat, 75 %" in texts_of(root)
    assert "teacher: bird, 35 %" in texts_of(root)
    columns = [[x for x, _ in bars] for bars in bars_of(root)]
    assert columns[0] == columns[1][:2]
    assert columns[1] == columns[2] == columns[3]


def test_one_class_alone_leaves_the_others_their_height() -> None:
    """Ten classes: what is over four times an equal share of 10 % is drawn at the full height of 22."""
    collapsed, even = [1000, *[0] * 9], [100] * 10
    root = parsed(draw_development(pseudo(content_of(GREY, [(collapsed, even), (even, even)], DIGITS))))
    student, teacher, *_ = bars_of(root)
    assert [height for _, height in student] == [22]
    assert [height for _, height in teacher] == pytest.approx([-5.5] * 10)
    assert "full height: 40 % and more; dotted: all classes alike" in texts_of(root)
    assert "student: 0, 100 %" in texts_of(root)


def test_a_hundred_classes_have_a_bar_each_and_no_crowded_names() -> None:
    names = [f"class {number}" for number in range(100)]
    root = parsed(draw_development(pseudo(content_of(GREY[:1], [([1] * 100, [2] * 100)], names))))
    for bars in bars_of(root):
        assert len({x for x, _ in bars}) == 100
    assert [text for text in texts_of(root) if "class 5" in text] == []
    assert "100 classes, class 0 to class 99" in texts_of(root)
    assert {"cat", "dog", "bird"} <= set(texts_of(parsed(draw_development(pseudo()))))


def test_no_answers_at_all_can_be_drawn() -> None:
    root = parsed(draw_development(pseudo(content_of(GREY[:1], [([0, 0], [0, 0])], ["a", "b"]))))
    assert bars_of(root) == [[], []]


def test_collapses_stand_in_the_row_that_they_are_in() -> None:
    root = parsed(draw_development(pseudo(), [10, 40, 60, 117]))
    texts = texts_of(root)
    assert texts.index("50") < texts.index("collapse at 10") < texts.index("and 1 more") < texts.index("100")
    assert texts.index("100") < texts.index("collapse at 60") < texts.index("collapse at 117")
    assert root.attrib["aria-label"].endswith("Collapses after 10, 40, 60, 117.")
    assert "ollapse" not in draw_development(pseudo())


def test_the_picture_is_told_in_words_and_asks_for_nothing() -> None:
    for svg in (draw_development(pseudo()), draw_picture(pseudo().pictures[0])):
        assert "after 50" in parsed(svg).attrib["aria-label"]
        assert re.findall(r'(?:href|src)="(?!#|data:image/png)[^"]*"', svg) == []
        assert "url(" not in svg


@pytest.mark.parametrize("count", [2, 20])
def test_names_with_markup_are_inert(count: int) -> None:
    svg = draw_development(pseudo(content_of(GREY[:1], [([1] * count, [1] * count)], [HOSTILE] * count)))
    root = parsed(svg)
    assert "<script" not in svg
    assert not any(element.tag.endswith("script") for element in root.iter())
    assert any("</text><scr" in text for text in texts_of(root))


def test_waveforms_are_lines_and_not_rows_of_one_pixel() -> None:
    waves = noise(2, 1, 1, 500)
    (made,) = pictures_of(parsed(draw_development(pseudo(content_of([waves], [([1], [1])], ["a"])))))
    lines = traced(waves)
    height, width = lines.shape[2:]
    assert made.shape[0] == height > 1
    for number in range(2):
        left = number * (width + height // 16)
        np.testing.assert_array_equal(made[:, left : left + width, 0], lines[number, 0])


@pytest.mark.parametrize("channels", [2, 4])
def test_neither_grey_nor_colours_show_their_first_channel(channels: int) -> None:
    images = noise(2, channels, 5, 5)
    np.testing.assert_array_equal(tiles(images), np.repeat(images[:, 0, ..., None], 3, axis=3))


def test_large_images_are_shrunk_by_means() -> None:
    images = noise(1, 3, 3 * LARGEST, 4 * LARGEST)
    small = tiles(images)
    assert small.shape == (1, LARGEST, -(-4 * LARGEST // 3), 3)
    blocks = images[0, :, :6, :6].reshape(3, 2, 3, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(small[0, :2, :2], np.moveaxis(blocks, 0, -1), atol=1)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["classes"], [], r"at classes"),
        (["pictures", 0, "images"], [], r"at pictures\.0\.images"),
        (["pictures", 0, "images", 0], [], r"same channels, all of one size"),
        (["pictures", 0, "images", 1], [["00"]], r"same channels, all of one size"),
        (["pictures", 1, "images", 1, 0], ["00", "0000", "0000"], r"rows of a grid must be of one length"),
        (["pictures", 1, "images", 1], [["0000"] * 3, ["00"]], r"same channels, all of one size"),
        (["pictures", 1, "images", 1, 0], ["xy"], r"non-hexadecimal"),
        (["pictures", 0, "student"], [1, 2], r"must have 3 counts each, one per class"),
        (["pictures", 0, "teacher"], [1, 2, -1], r"at pictures\.0\.teacher\.2"),
        (["pictures", 1, "done"], 50, r"in the order in which they were taken"),
        (["pictures", 0, "done"], "late", r"at pictures\.0\.done"),
    ],
)
def test_a_file_that_cannot_be_drawn_is_named(path: list[Any], value: Any, problem: str, tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    place: Any = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (tmp_path / "pseudo.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=rf"pseudo\.json cannot be shown: .*{problem}"):
        payloads.read(PseudoPayload, tmp_path)


def test_channels_of_two_sizes_are_named() -> None:
    image = [["00"], ["0000"]]
    content = {"done": 1, "images": [image, image], "student": [1], "teacher": [1]}
    with pytest.raises(ValueError, match="same channels, all of one size"):
        pseudo({"classes": ["a"], "pictures": [content]})


def test_a_run_that_ended_before_its_first_picture_has_none() -> None:
    assert pseudo({"classes": ["a"], "pictures": []}).pictures == []
