"""Attention maps: what the file must hold, and what the picture shows of it."""

from __future__ import annotations

import base64
import copy
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nasdistill.errors import DamagedFile
from nasdistill.report import payloads
from nasdistill.report.records import Row
from nasdistill.report.sections import sections
from nasdistill.report.sections.attention_maps import AttentionPayload, draw_attention
from nasdistill.report.summaries import by_stage
from nasdistill.storage import write_json
from tests.report.fakes import resealed

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</text><script>alert("1")</script>&'
ONE_TEACHER: dict[str, Any] = {
    "similarity": 0.7,
    "images": [
        {"index": 4, "label": "cat", "student": "dog", "teachers": ["cat"], "pixels": [["00ff", "8000", "1020"]]},
        {"index": 9, "label": "dog", "student": "dog", "teachers": ["cat"], "pixels": [["0000", "0000", "0000"]]},
    ],
    "pairs": [
        {"student": "a", "teacher": "b", "number": 0, "similarity": 0.8,
         "maps": [[["00ff", "1122"], ["ff00", "0000"]], [["ffff", "ffff"], ["ffff", "ffff"]]]},
        {"student": "c", "teacher": "d", "number": 0, "similarity": 0.6,
         "maps": [[["ff00"], ["ff"]], [["00ff"], ["ff"]]]},
    ],
}  # fmt: skip


def attention(**changes: Any) -> AttentionPayload:
    return AttentionPayload.model_validate({**copy.deepcopy(ONE_TEACHER), **changes})


def two_teachers() -> AttentionPayload:
    content = copy.deepcopy(ONE_TEACHER)
    for image in content["images"]:
        image["teachers"].append("bird")
    content["pairs"][1] |= {"student": "a", "number": 1}
    return AttentionPayload.model_validate(content)


def drawn(given: AttentionPayload, number: int = 0) -> ElementTree.Element:
    return ElementTree.fromstring(draw_attention(given, number))  # noqa: S314


def pixels_of(root: ElementTree.Element) -> dict[tuple[float, float], np.ndarray]:
    """What each picture shows, by its place."""
    return {
        (float(element.attrib["x"]), float(element.attrib["y"])): np.asarray(
            Image.open(io.BytesIO(base64.b64decode(element.attrib["href"].removeprefix("data:image/png;base64,"))))
        )
        for element in root.iter(f"{SVG}image")
    }


def texts_of(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def test_an_image_stands_beside_the_maps_of_student_and_teacher() -> None:
    root = drawn(attention())
    shown = pixels_of(root)
    assert len(shown) == 1 + 2 * 2
    (image_place, *places) = shown
    np.testing.assert_array_equal(shown[image_place][..., :3].max(axis=2), [[0, 255], [128, 0], [16, 32]])
    columns, rows = sorted({x for x, _ in places}), sorted({y for _, y in places})
    assert {(x, y) for x in columns for y in rows} == set(places)
    assert [shown[column, row].shape[:2] for column in columns for row in rows] == [(2, 2), (2, 2), (1, 2), (1, 1)]
    assert texts_of(root) == [
        "cat",
        "student predicts dog ✕",
        "student",
        "teacher predicts cat ✓",
        "teacher",
        "2x2",
        "1x2",
    ]


def test_a_map_is_brighter_where_its_values_are_larger() -> None:
    shown = pixels_of(drawn(attention()))
    students = shown[min(place for place in list(shown)[1:])]
    lightness = students[..., :3] @ np.array([0.2126, 0.7152, 0.0722])  # 00 < 11 < 22 < ff
    assert lightness[0, 0] < lightness[1, 0] < lightness[1, 1] < lightness[0, 1]


def test_several_teachers_have_a_row_each_and_share_the_students() -> None:
    root = drawn(two_teachers())
    _image, *places = pixels_of(root)
    assert len({x for x, _ in places}) == 1
    assert len({y for _, y in places}) == len(places) == 3
    assert {"student predicts dog ✕", "teacher 1 predicts cat ✓", "teacher 2 predicts bird ✕"} <= set(texts_of(root))


def alone(**image_changes: Any) -> dict[str, Any]:
    """What a network without a teacher leaves: maps of one pixel, and another answer."""
    content = copy.deepcopy(ONE_TEACHER) | {"similarity": None}
    for image in content["images"]:
        image |= {"student": "bird", "teachers": [], **image_changes}
    for pair in content["pairs"]:
        pair |= {"teacher": None, "number": None, "similarity": None, "maps": [[["00"]]] * 2}
    return content


def test_the_same_network_without_a_teacher_has_a_row_below() -> None:
    root = drawn(attention().model_copy(update={"without": {"alone": AttentionPayload.model_validate(alone())}}))
    _image, *places = shown = pixels_of(root)
    rows = sorted({y for _, y in places})
    assert len(places) == 2 * 3
    assert all(shown[place].shape[:2] == (1, 1) for place in places if place[1] == rows[2])
    assert {"student predicts dog ✕", "teacher predicts cat ✓", "alone predicts bird ✕"} <= set(texts_of(root))
    assert "the teacher predicts cat, without a teacher alone predicts bird" in root.attrib["aria-label"]


def test_a_network_without_a_teacher_is_shown_by_itself() -> None:
    root = drawn(AttentionPayload.model_validate(alone()))
    assert len(pixels_of(root)) == 1 + 2
    assert "network predicts bird ✕" in texts_of(root)


def row(folder: Path, stage: str, payload: dict[str, Any], parameters: int, **inputs: str) -> Row:
    write_json(folder / stage / "attention.json", payload)
    resealed(folder / stage)
    numbers = {"parameters": parameters, "content": stage, "inputs": inputs}
    return Row(stage, "train", 0, folder=folder / stage, **numbers)  # type: ignore[arg-type]


def test_the_page_shows_the_network_alone_beside_its_taught_twin_and_nobody_twice(tmp_path: Path) -> None:
    rows = [
        row(tmp_path, "teacher", alone(), 9),
        row(tmp_path, "alone", alone(), 5),
        row(tmp_path, "elsewhere", alone(), 7),
        row(tmp_path, "student", ONE_TEACHER, 5, student="alone", teacher="teacher"),
    ]
    (part,) = sections(by_stage(rows))
    assert [group.title for group in part.groups] == ["elsewhere", "student", "Similarity of attention maps"]
    assert all("alone predicts bird" in picture for picture in part.groups[1].pictures)
    rows[1] = row(tmp_path, "alone", alone(index=99), 5)
    (part,) = sections(by_stage(rows))
    assert [group.title for group in part.groups[:-1]] == ["alone", "elsewhere", "student"]
    assert not any("alone predicts" in picture for picture in part.groups[2].pictures)


def test_a_point_that_has_two_beside_it_has_two_columns() -> None:
    content = copy.deepcopy(ONE_TEACHER["pairs"])
    content[1] |= {"student": "a", "maps": [[maps[0], other[1]] for maps, other in zip(
        content[0]["maps"], content[1]["maps"], strict=True)]}  # fmt: skip
    shown = pixels_of(drawn(attention(pairs=content)))
    _image, *places = shown
    assert len(places) == 4
    ((left, top), (left_too, below), (right, top_too), (right_too, below_too)) = sorted(places)
    assert (left, right, top, below) == (left_too, right_too, top_too, below_too)
    np.testing.assert_array_equal(shown[left, top], shown[right, top])
    assert shown[left, below].shape != shown[right, below].shape


def test_colours_are_shown_as_they_are() -> None:
    content = copy.deepcopy(ONE_TEACHER["images"])
    content[0]["pixels"] = [["0102", "0708"], ["0304", "090a"], ["0506", "0b0c"]]
    shown = pixels_of(drawn(attention(images=content)))
    np.testing.assert_array_equal(next(iter(shown.values())), [[[1, 3, 5], [2, 4, 6]], [[7, 9, 11], [8, 10, 12]]])


def test_a_waveform_is_a_line_above_maps_as_wide() -> None:
    content = copy.deepcopy(ONE_TEACHER)
    for image in content["images"]:
        image["pixels"] = [["00" * 4 + "ff" * 4]]
    content["pairs"] = [content["pairs"][1] | {"maps": [[["ff00"], ["00ff"]]] * 2}]
    root = drawn(AttentionPayload.model_validate(content))
    image, *maps = root.iter(f"{SVG}image")
    picture = next(iter(pixels_of(root).values()))[..., 0]
    side = len(picture)
    assert picture.shape == (side, side)
    assert float(image.attrib["width"]) == side
    assert (picture[-1, : side // 2] == 255).all()  # silence below, then the loudest above, and the step between them
    assert (picture[0, side // 2 :] == 255).all()
    assert (picture == 255).sum() == side + side - 1
    assert [element.attrib.get("preserveAspectRatio") for element in (image, *maps)] == [None, "none", "none"]


def test_the_picture_is_told_in_words() -> None:
    told = drawn(attention(), 1).attrib["aria-label"]
    assert told.startswith("A test image of class dog: the student predicts dog, the teacher predicts cat.")


def test_names_with_markup_are_inert() -> None:
    content = copy.deepcopy(ONE_TEACHER["images"])
    content[0] |= {"label": HOSTILE, "student": HOSTILE, "teachers": [HOSTILE]}
    root = drawn(attention(images=content))
    assert not any(element.tag.endswith("script") for element in root.iter())
    assert any("</text><scr" in text for text in texts_of(root))
    assert HOSTILE in root.attrib["aria-label"]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["images"], [], r"at images"),
        (["pairs"], [], r"at pairs"),
        (["images", 0, "pixels", 0], ["00", "0000"], r"rows of a grid must be of one length, over 0 at images\.0"),
        (["images", 0, "pixels", 0], [], r"rows of a grid must be of one length"),
        (["images", 0, "pixels", 0], [""], r"rows of a grid must be of one length"),
        (["images", 0, "pixels", 0], ["xy"], r"non-hexadecimal"),
        (["images", 0, "pixels", 0], [7], r"at images\.0\.pixels\.0"),
        (["images", 0, "pixels"], [["00"], ["0000"]], r"channels must be of one size at images\.0"),
        (["images", 0, "teachers"], [], r"must speak of the same teachers"),
        (["pairs", 0, "teacher"], None, r"a point must have a teacher's with its number, similarity and maps"),
        (["images", 0, "teachers"], ["a", "b"], r"must speak of the same teachers"),
        (["pairs", 0, "number"], 1, r"must speak of the same teachers"),
        (["pairs", 0, "maps"], [], r"each pair must have 2 pairs of maps, one per image"),
    ],
)
def test_a_file_that_cannot_be_drawn_is_named(path: list[Any], value: Any, problem: str, tmp_path: Path) -> None:
    content = copy.deepcopy(ONE_TEACHER)
    place: Any = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (tmp_path / "attention.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=rf"attention\.json cannot be shown: .*{problem}"):
        payloads.read(AttentionPayload, tmp_path)
