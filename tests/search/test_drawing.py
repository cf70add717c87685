from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdistill.search.drawing import Edges, draw_cell

SVG = "{http://www.w3.org/2000/svg}"

# DARTS_V2's normal cell as published (Liu et al. 2019, figure 4).
DARTS_V2 = (
    (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
    (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
    (("sep_conv_3x3", 1), ("skip_connect", 0)),
    (("skip_connect", 0), ("dil_conv_3x3", 2)),
)


@st.composite
def genotypes(draw: st.DrawFn, inputs: int = 2) -> list[list[tuple[str, int]]]:
    operations = st.sampled_from(["sep_conv_5x5", "max_pool_3x3", "none", "an operation of a plugin"])
    nodes = draw(st.integers(1, 6))
    return [
        draw(st.lists(st.tuples(operations, st.integers(0, node + inputs - 1)), min_size=0, max_size=4))
        for node in range(nodes)
    ]


def boxes_of(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of every rectangle: operations, nodes, inputs and output."""
    rectangles = []
    for element in root.iter(f"{SVG}rect"):
        x, y, width, height = (float(element.attrib[name]) for name in ("x", "y", "width", "height"))
        rectangles.append((x, y, x + width, y + height))
    return rectangles


def texts_of(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def test_the_published_cell_has_its_operations_and_states() -> None:
    texts = texts_of(ElementTree.fromstring(draw_cell(DARTS_V2, "normal cell")))  # noqa: S314
    assert texts[0] == "normal cell"
    assert sorted(texts[1:]) == sorted(
        ["sep_conv_3x3"] * 5 + ["skip_connect"] * 2 + ["dil_conv_3x3", "ck-2", "ck-1", "0", "1", "2", "3", "ck"]
    )


def test_every_line_joins_what_the_genotype_says() -> None:
    edges: Edges = ((("skip_connect", 0),), (("max_pool_3x3", 2),))
    root = ElementTree.fromstring(draw_cell(edges, ""))  # noqa: S314
    labels = dict(zip(texts_of(root)[1:], boxes_of(root), strict=True))

    def at(x: float, y: float) -> set[str]:
        return {
            name for name, (left, top, right, bottom) in labels.items()
            if left - 1 <= x <= right + 1 and top <= y <= bottom
        }  # fmt: skip

    joined = []
    for path in root.iter(f"{SVG}path"):
        numbers = [float(number) for number in re.findall(r"[\d.]+", path.attrib["d"])]
        joined.append((at(*numbers[:2]), at(*numbers[-2:])))
    assert sorted((start.pop(), end.pop()) for start, end in joined) == sorted(
        [("ck-2", "skip_connect"), ("skip_connect", "0"), ("0", "max_pool_3x3"), ("max_pool_3x3", "1"), ("0", "ck"),
         ("1", "ck")]
    )  # fmt: skip


@settings(max_examples=60)
@given(st.sampled_from([1, 2]).flatmap(lambda inputs: st.tuples(st.just(inputs), genotypes(inputs))))
def test_nothing_overlaps_and_all_is_inside(cell: tuple[int, list[list[tuple[str, int]]]]) -> None:
    inputs, edges = cell
    root = ElementTree.fromstring(draw_cell(edges, "cell", inputs))  # noqa: S314
    boxes = boxes_of(root)
    assert len(boxes) == sum(map(len, edges)) + len(edges) + inputs + 1
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for left, top, right, bottom in boxes:
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


@settings(max_examples=60, deadline=None)
@given(genotypes())
def test_no_line_runs_behind_a_box_that_it_does_not_join(edges: list[list[tuple[str, int]]]) -> None:
    root = ElementTree.fromstring(draw_cell(edges, "cell"))  # noqa: S314
    boxes = boxes_of(root)
    for path in root.iter(f"{SVG}path"):
        straight = re.search(r" ([\d.]+)H([\d.]+)", path.attrib["d"])
        if straight:
            height = float(straight[1])
            assert all(height < top or height > bottom for _, top, _, bottom in boxes)


def test_names_with_markup_are_inert() -> None:
    hostile = '</text><script>alert("1")</script>&'
    root = ElementTree.fromstring(draw_cell([[(hostile, 0)]], hostile))  # noqa: S314
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "text", "rect", "path", "tspan"}
    assert texts_of(root)[:2] == [hostile, hostile]
    assert root.attrib["aria-label"] == hostile


@pytest.mark.parametrize(
    ("edges", "problem"),
    [([], "at least one node"), ([[("none", 2)]], "state 2; allowed are 0 to 1"), ([[("none", -1)]], "state -1")],
)
def test_cells_that_are_none(edges: Edges, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        draw_cell(edges, "cell")


def test_a_cell_of_one_input_ends_in_its_last_node() -> None:
    edges: Edges = ((("nor_conv_1x1", 0),), (("avg_pool_3x3", 1), ("skip_connect", 0)))
    root = ElementTree.fromstring(draw_cell(edges, "cell", inputs=1, outputs=range(1, 2)))  # noqa: S314
    assert sorted(texts_of(root)[1:]) == sorted(
        ["nor_conv_1x1", "avg_pool_3x3", "skip_connect", "ck-1", "1", "2", "ck"]
    )
    dashed = [path for path in root.iter(f"{SVG}path") if "stroke-dasharray" in path.attrib]
    assert len(dashed) == 1
    with pytest.raises(ValueError, match="state 1; allowed are 0 to 0"):
        draw_cell(((("none", 1),),), "cell", inputs=1)
