from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nasdistill.report
from nasdistill.report import answer_plots, plots

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '_</text><script>alert("1")</script>$\\frac{&\x00\n'


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314


def texts_of(root: ElementTree.Element) -> set[str]:
    return {"".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")}


def curve_points(root: ElementTree.Element, width: str) -> list[list[tuple[float, float]]]:
    """The points, in drawing units, of every line of a stroke width."""
    found = []
    for path in root.iter(f"{SVG}path"):
        if f"stroke-width: {width}" in path.attrib.get("style", ""):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def pictures() -> dict[str, str]:
    return {
        "lines": plots.lines({"a": [[(1, 2.0), (2, 1.0)]], "b": [[(1, 1.0), (2, 3.0)]]}, "t", "epoch"),
        "bars": plots.bars({"before": [1, 2], "after": [2, 3]}, ["0", "1"], "t", "cell", "width"),
        "scatter": plots.scatter({"a": [(100, 90.0)], "b": [(1000, 91.0)]}, "t", "x", "y"),
        "confusion": answer_plots.confusion([[3, 1], [0, 4]], ["cat", "dog"], "t"),
    }


def test_mean_over_the_points_that_all_have() -> None:
    assert plots.mean_curve([[(1, 2.0), (2, 4.0), (3, 9.0)], [(2, 8.0), (1, 4.0)]]) == [(1, 3.0), (2, 6.0)]


def test_the_strong_line_is_the_mean_of_the_seeds() -> None:
    root = parsed(plots.lines({"loss": [[(1, 0.0), (2, 4.0)], [(1, 2.0), (2, 0.0)]]}, "", "epoch"))
    (first, second), (mean,) = curve_points(root, "0.9"), curve_points(root, "1.8")
    for one, other, both in zip(first, second, mean, strict=True):
        assert both[0] == one[0] == other[0]
        assert both[1] == pytest.approx((one[1] + other[1]) / 2)


def test_long_curves_are_thinned_and_keep_their_peaks() -> None:
    curve = [(float(at), float(at % 2)) for at in range(1600)]
    curve[700], curve[1111] = (700.0, 9.0), (1111.0, -9.0)
    thin = plots.thinned(curve)
    assert len(thin) <= plots.MOST_POINTS
    assert set(thin) <= set(curve)
    assert [at for at, _ in thin] == sorted({at for at, _ in thin})
    assert {curve[0], curve[700], curve[1111], curve[-1]} <= set(thin)
    assert plots.thinned(curve[:400]) == curve[:400]
    (drawn,) = curve_points(parsed(plots.lines({"loss": [curve]}, "", "pseudo-batches")), "1.8")
    assert 100 < len(drawn) <= plots.MOST_POINTS


def test_many_steps_have_ticks_apart() -> None:
    texts = texts_of(parsed(plots.lines({"a": [[(50, 1.0), (80_000, 2.0)]]}, "", "pseudo-batches")))
    assert {"25,000", "50,000"} <= texts
    assert len({text for text in texts if text.endswith(",000")}) <= 4


def test_one_epoch_has_one_tick() -> None:
    root = parsed(plots.lines({"loss": [[(1, 2.5)]]}, "", "epoch"))
    assert [text.text for text in root.iter(f"{SVG}text")].count("1") == 1


def test_ticks_of_costs_close_together_do_not_cover_each_other() -> None:
    def sides(first: float, last: float) -> dict[str, str]:
        root = parsed(plots.scatter({"a": [(first, 90.0)], "b": [(last, 91.0)]}, "t", "x", "y"))
        styles = {text.text or "": text.attrib["style"] for text in root.iter(f"{SVG}text")}
        return {name: anchor[0] for name, style in styles.items() if (anchor := re.findall(r"anchor: (\w+)", style))}

    near = sides(0.0798, 0.0821)
    assert (near["0.0798"], near["0.0821"]) == ("end", "start")
    far = sides(100, 1000)
    assert far["100"] == far["1,000"] == "middle"


def test_losses_over_many_orders_of_magnitude_are_drawn_on_a_logarithmic_scale() -> None:
    texts = texts_of(parsed(plots.lines({"loss": [[(1, 1e4), (2, 1.0)]]}, "", "epoch")))
    assert {"1", "100", "10000"} <= texts
    assert "5000" not in texts


def test_counts_and_labels_of_a_confusion_matrix() -> None:
    texts = texts_of(parsed(answer_plots.confusion([[30, 1], [0, 29]], ["cat", "dog"], "student")))
    assert {"30", "1", "29", "cat", "dog", "predicted", "true", "student"} <= texts
    assert "0" not in texts


def test_a_large_matrix_has_no_crowded_labels() -> None:
    hundred = [[float(row == column) for column in range(100)] for row in range(100)]
    root = parsed(answer_plots.confusion(hundred, [f"class {number}" for number in range(100)], "student"))
    assert not any(text.startswith("class") for text in texts_of(root))


def test_a_stage_that_never_saw_a_class_can_be_drawn() -> None:
    assert "cat" in texts_of(parsed(answer_plots.confusion([[0, 0], [0, 0]], ["cat", "dog"], "student")))


@pytest.mark.parametrize("name", ["lines", "bars", "scatter", "confusion"])
def test_pictures_follow_the_pages_palette_and_ask_for_nothing(name: str) -> None:
    svg = pictures()[name]
    parsed(svg)
    assert "currentColor" in svg
    assert "var(--series-0, #0072b2)" in svg or name == "confusion"
    assert plots.INK not in svg
    assert re.findall(r'(?:href|src)="(?!#|data:)[^"]*"', svg) == []
    assert re.findall(r"url\((?!#)", svg) == []
    assert re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink))", svg) == []
    assert "<style" not in svg


def test_the_same_picture_has_the_same_bytes() -> None:
    assert pictures() == pictures()


@pytest.mark.parametrize(
    "svg",
    [
        plots.lines({HOSTILE: [[(1, 1.0)]], "b": [[(1, 2.0)]]}, HOSTILE, "epoch"),
        plots.bars({HOSTILE: [1.0], "b": [2.0]}, [HOSTILE], HOSTILE, "cell", "width"),
        plots.scatter({HOSTILE: [(1, 1.0)]}, HOSTILE, "x", "y"),
        answer_plots.confusion([[1.0]], [HOSTILE], HOSTILE),
    ],
)
def test_names_with_markup_are_inert(svg: str) -> None:
    assert "<script" not in svg
    root = parsed(svg.replace("\x00", ""))
    assert not any(element.tag.endswith("script") for element in root.iter())
    assert any("</text><scr" in text for text in texts_of(root))


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of `#rrggbb`."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_both_palettes_can_be_read() -> None:
    """WCAG 2.1 asks for a contrast of 3 for graphics and 4.5 for text."""
    css = (Path(nasdistill.report.__file__).parent / "page.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in css.split("@media", 2)[:2])
    assert tuple(light[f"series-{number}"] for number in range(8)) == plots.SERIES
    for palette in (light, dark):
        for number in range(8):
            assert contrast(palette[f"series-{number}"], palette["paper"]) >= 3, number
        for paper in (palette["paper"], palette["raised"]):
            assert contrast(palette["ink"], paper) >= 4.5
            assert contrast(palette["soft"], paper) >= 4.5
        assert contrast(palette["accent"], palette["paper"]) >= 4.5


def test_a_long_name_is_cut_where_it_tells_least() -> None:
    names = [f"student, student.objectives.0.temperature={number}" for number in (2, 4)]
    kept = [plots.shortened(name, keep_end=True) for name in names]
    assert kept == [f"student,\N{HORIZONTAL ELLIPSIS}s.0.temperature={number}" for number in (2, 4)]
    assert {len(name) for name in kept} == {plots.LONGEST_NAME}
    assert plots.shortened(names[0], 8) == "student\N{HORIZONTAL ELLIPSIS}"
    assert plots.shortened("a\nb") == "a b"
