"""Networks alone and together: what the file must hold, and what pictures, table and page show of it."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nasdistill.errors import DamagedFile
from nasdistill.report import answer_plots, payloads
from nasdistill.report.parts import Part
from nasdistill.report.records import Row, RunRecord
from nasdistill.report.sections import ensembles as generations
from nasdistill.report.sections import sections
from nasdistill.report.summaries import by_stage
from nasdistill.report.words import gain
from nasdistill.training.metrics import BINS
from tests.report.fakes import fake_run, write_artifact
from tests.report.test_page import assert_asks_for_nothing, page_of
from tests.report.test_plots import HOSTILE, contrast, curve_points, parsed, texts_of

EMPTY = [[0.0, 0.0, 0.0]]
BINNED = [*EMPTY * 7, [20.0, 5.0, 10.0], *EMPTY * 6, [80.0, 76.0, 78.0]]  # 100 images; 0.25 at 0.5, 0.95 at 0.975


def score(accuracy: float, loss: float = 0.5, calibration_error: float = 0.07) -> dict[str, Any]:
    return {"accuracy": accuracy, "loss": loss, "calibration_error": calibration_error, "bins": copy.deepcopy(BINNED)}


def content_of(teacher: float, members: Sequence[float], together: Sequence[float] = (), off: float = 90) -> Any:
    """The file as plain data: `ban-0` beside the members `ban-1`, ...; two networks agree on `off` percent."""
    count = 1 + len(members)
    return {
        "networks": [
            {"name": f"ban-{number}", "member": number > 0, **score(accuracy)}
            for number, accuracy in enumerate([teacher, *members])
        ],
        "ensembles": [{"members": number, **score(accuracy)} for number, accuracy in enumerate(together, start=2)],
        "agreement": [[100.0 if row == column else off for column in range(count)] for row in range(count)],
    }


THREE = [
    content_of(80, [82, 83, 84], [85, 86], off=90),
    content_of(81, [81, 82], [84], off=93),
    content_of(82, [83, 87, 86], [86, 88], off=96),
]
"""Three seeds; the second one ended after two generations."""


def ensembles(contents: Sequence[Any] = THREE) -> list[payloads.EnsemblePayload]:
    return [payloads.EnsemblePayload.model_validate(copy.deepcopy(content)) for content in contents]


def changed(*path: str | int, to: Any) -> Any:
    content = copy.deepcopy(THREE[0])
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return content


def test_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_text(json.dumps(THREE[0]))
    ensemble = payloads.read(payloads.EnsemblePayload, tmp_path)
    assert ensemble is not None
    assert [member.name for member in ensemble.members] == ["ban-1", "ban-2", "ban-3"]
    assert ensemble.whole.accuracy == 86
    assert ensembles([content_of(80, [81.5])])[0].whole.accuracy == 81.5
    assert payloads.BINS == BINS  # as networks are scored


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "at the top"),
        (changed("networks", to=[]), "at networks"),
        (changed("networks", 1, "accuracy", to=100.5), r"at networks\.1\.accuracy"),
        (changed("networks", 1, "accuracy", to=float("nan")), r"at networks\.1\.accuracy"),
        (changed("networks", 2, "loss", to=float("inf")), r"at networks\.2\.loss"),
        (changed("ensembles", 0, "calibration_error", to=-0.1), r"at ensembles\.0\.calibration_error"),
        (changed("networks", 0, "bins", to=BINNED[1:]), r"at least 15 must be given at networks\.0\.bins"),
        (changed("networks", 0, "bins", 14, to=[80, 76]), r"at networks\.0\.bins\.14"),
        (changed("networks", 0, "bins", 14, 1, to=81), r"no more correct images.* than images at networks\.0"),
        (changed("networks", 0, "bins", 14, 2, to=80.1), r"no more confidence, than images at networks\.0"),
        (changed("networks", 0, "bins", to=EMPTY * 15), r"at least one image at networks\.0"),
        (changed("networks", 0, "bins", 14, to=[81, 76, 78]), "scored on as many images"),
        (changed("networks", 2, "name", to="ban-1"), "must have different names"),
        (changed("networks", 3, "member", to=False), "an ensemble of the first 2, 3"),
        (changed("ensembles", 1, "members", to=4), "an ensemble of the first 2, 3"),
        (changed("ensembles", to=[]), "an ensemble of the first 2, 3"),
        (changed("agreement", 1, to=[90, 100, 90]), "agreement must have 4 rows and columns"),
        (changed("agreement", 1, 2, to=101), r"at agreement\.1\.2"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: Any, problem: str) -> None:
    (tmp_path / "ensemble.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=rf"ensemble\.json cannot be shown: .*{problem}"):
        payloads.read(payloads.EnsemblePayload, tmp_path)


def test_without_any_member_there_is_no_ensemble() -> None:
    content = content_of(80, [])
    with pytest.raises(ValueError, match="there must be members"):
        payloads.EnsemblePayload.model_validate(content)


def heights(root: ElementTree.Element, *of: tuple[float, float]) -> list[float]:
    """From drawing units to values, by two points (drawn, value)."""
    (low, value), (high, other) = of
    return [value + (y - low) * (other - value) / (high - low) for curve in curve_points(root, "1.8") for _, y in curve]


def test_the_strong_line_is_the_mean_of_the_seeds_that_have_a_network() -> None:
    root = parsed(generations.draw(ensembles())[0])
    alone, together, beside = curve_points(root, "1.8")[:3]
    assert [len(alone), len(together), len(beside)] == [3, 2, 1]
    first, second = (alone[0][1], 82.0), (alone[1][1], 84.0)  # means of 82, 81, 83 and of 83, 82, 87
    # The third has two seeds, 84 and 86; two members together 85, 84, 86; three 86 and 88; the teacher 80, 81, 82.
    assert heights(root, first, second)[:6] == pytest.approx([82, 84, 85, 85, 87, 81], abs=1e-3)
    assert {"ban-0", "ban-1", "ban-2", "ban-3 (2 of 3)"} <= texts_of(root)
    assert {"each member", "ensemble up to it", "no member"} <= texts_of(root)


def test_members_together_stand_at_the_last_of_them() -> None:
    root = parsed(generations.draw(ensembles())[0])
    alone, together, beside = ([x for x, _ in curve] for curve in curve_points(root, "1.8")[:3])
    assert together == alone[1:]
    assert [alone[0] - beside[0], alone[2] - alone[1]] == pytest.approx([alone[1] - alone[0]] * 2, abs=1e-3)


def test_each_seed_is_faint_and_a_single_one_is_not() -> None:
    assert [len(curve) for curve in curve_points(parsed(generations.draw(ensembles())[0]), "0.9")] == [
        *(3, 2, 3), *(2, 1, 2), *(1, 1, 1)]  # fmt: skip
    assert curve_points(parsed(generations.draw(ensembles(THREE[:1]))[0]), "0.9") == []


def test_a_member_alone_has_no_ensemble_to_draw() -> None:
    found = ensembles([content_of(80, [82])])
    texts = texts_of(parsed(generations.draw(found)[0]))
    assert "each member" in texts
    assert "ensemble up to it" not in texts
    assert "var(--series-2" in generations.draw(found)[0]  # the teacher keeps its colour
    assert len(generations.draw_reliability(found)) == 2
    assert [str(row[0]) for row in generations.table(found).rows] == ["ban-0 (no member)", "ban-1"]


def cells_of(root: ElementTree.Element) -> np.ndarray:
    """The colours of a matrix, [N, N, 4]."""
    (image,) = root.iter("{http://www.w3.org/2000/svg}image")
    data = image.attrib["{http://www.w3.org/1999/xlink}href"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_agreement_is_the_mean_over_the_seeds_that_have_both() -> None:
    root = parsed(generations.draw(ensembles())[1])
    numbers = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text") if element.text]
    assert sorted(text for text in numbers if re.fullmatch(r"\d+\.\d", text)) == ["93.0"] * 12
    other = content_of(80, [82, 83, 84], [85, 86])
    other["agreement"] = [[100, 60, 70, 80], [60, 100, 71, 81], [70, 71, 100, 82], [80, 81, 82, 100]]
    texts = texts_of(parsed(generations.draw(ensembles([other, THREE[1]]))[1]))
    # Of the pairs with ban-3 only one seed knows; those of the others are means with 93.
    assert {"76.5", "81.5", "82.0", "80.0", "81.0"} <= texts
    assert "100.0" not in texts


def test_networks_that_no_seed_has_together_have_an_empty_cell() -> None:
    other = copy.deepcopy(THREE[1])
    other["networks"][2]["name"] = "another"
    root = parsed(generations.draw(ensembles([THREE[1], other]))[1])
    assert {"ban-0", "ban-1", "ban-2 (1 of 2)", "another (1 of 2)"} <= texts_of(root)
    assert (cells_of(root)[..., 3] > 0).sum() == 4 * 3 - 2


def test_a_cell_is_the_stronger_the_more_two_agree() -> None:
    values = [[100, 70, 80], [70, 100, 90], [80, 90, 100]]
    opacity = cells_of(parsed(answer_plots.agreement(values, ["a", "b", "c"], "t")))[..., 3].astype(int)
    assert (np.diag(opacity) == 0).all()
    assert 0 < opacity[0, 1] < opacity[0, 2] < opacity[1, 2]
    close = [[100, 90.1, 90.2], [90.1, 100, 90.3], [90.2, 90.3, 100]]
    opacity = cells_of(parsed(answer_plots.agreement(close, ["a", "b", "c"], "t")))[..., 3].astype(int)
    assert opacity[1, 2] - opacity[0, 1] <= 8  # of 255: a tenth of a percent is no news


@pytest.mark.parametrize(("ink", "paper"), [("#1b1f24", "#ffffff"), ("#e6e9ee", "#14171c"), ("#000000", "#ffffff")])
def test_numbers_can_be_read_on_the_strongest_cell(ink: str, paper: str) -> None:
    *colour, opacity = cells_of(
        parsed(answer_plots.agreement([[100, 0, 50], [0, 100, 100], [50, 100, 100]], "abc", "t"))
    )[1, 2]
    behind = [int(paper[at : at + 2], 16) for at in (1, 3, 5)]
    share = opacity / 255
    mixed = [round(share * int(over) + (1 - share) * under) for over, under in zip(colour, behind, strict=True)]
    assert contrast("#{:02x}{:02x}{:02x}".format(*mixed), ink) >= 4.5


def test_twelve_networks_have_their_numbers_and_a_hundred_do_not() -> None:
    def texts(count: int) -> set[str]:
        values = [[100.0 if row == column else 91.26 for column in range(count)] for row in range(count)]
        return texts_of(parsed(answer_plots.agreement(values, [f"ban-{number}" for number in range(count)], "t")))

    assert "91.3" in texts(8)
    assert "91" in texts(12)
    assert "ban-11" in texts(12)
    assert not texts(100) & {"91", "91.3", "ban-1"}


Circle = tuple[float, float, float]


def circles_of(root: ElementTree.Element) -> list[Circle]:
    """Centre and radius of every dot, in drawing units."""
    found = []
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        if "C" in path.attrib["d"] and "clip-path" in path.attrib:
            points = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
            xs, ys = points[::2], points[1::2]
            found.append(((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2, (max(xs) - min(xs)) / 2))
    return found


def placed(root: ElementTree.Element) -> list[Circle]:
    """The dots in units of the axes, by the diagonal, which goes from 0 to 1."""
    ((left, bottom), (right, top)) = curve_points(root, "0.9")[0]
    return [((x - left) / (right - left), (y - bottom) / (top - bottom), radius) for x, y, radius in circles_of(root)]


def test_a_dot_is_a_bins_accuracy_over_its_mean_confidence() -> None:
    dots = placed(parsed(answer_plots.reliability([BINNED], "ban-0", "note")))
    assert [place for dot in dots for place in dot[:2]] == pytest.approx([0.5, 0.25, 0.975, 0.95], abs=1e-4)
    small, large = (radius**2 for _, _, radius in dots)
    assert large / small == pytest.approx(80 / 20, rel=0.1)  # areas are shares; a bin of one image still shows


def test_bins_of_several_seeds_are_joined() -> None:
    """30 of 40 at 0.6 and 5 of 20 at 0.5: together 35 of 60 at 34 / 60."""
    other = [*EMPTY * 7, [40.0, 30.0, 24.0], *EMPTY * 6, [60.0, 57.0, 58.5]]
    dots = placed(parsed(answer_plots.reliability([BINNED, other], "ban-0", "note")))
    faint, strong = dots[:4], dots[4:]
    seeds = [0.5, 0.25, 0.975, 0.95, 0.6, 0.75, 0.975, 0.95]
    assert [place for dot in faint for place in dot[:2]] == pytest.approx(seeds, abs=1e-4)
    assert [place for dot in strong for place in dot[:2]] == pytest.approx([34 / 60, 35 / 60, 0.975, 0.95], abs=1e-4)


def test_reliability_of_the_first_the_last_and_all_together() -> None:
    contents = copy.deepcopy(THREE)
    for number, content in enumerate(contents):
        content["networks"][0]["calibration_error"] = 0.06 + 0.01 * number
        content["ensembles"][-1]["calibration_error"] = 0.02
    first, last, together = map(parsed, generations.draw_reliability(ensembles(contents)))
    assert {"ban-0", "calibration error", "0.070 ± 0.010"} <= texts_of(first)
    assert {"ban-2 or ban-3", "0.070 ± 0.000"} <= texts_of(last)
    assert {"2 to 3 members together", "0.020 ± 0.000"} <= texts_of(together)


def test_the_table_has_each_network_and_the_first_members_together() -> None:
    contents = copy.deepcopy(THREE)
    contents[0]["ensembles"][0] |= {"loss": 0.4, "calibration_error": 0.031}
    table = generations.table(ensembles(contents))
    assert table.header == ("network", "accuracy %", "loss, nats", "calibration error")
    assert [[str(cell) for cell in row[:2]] for row in table.rows] == [
        ["ban-0 (no member)", "81.00 ± 1.00 (80.00, 81.00, 82.00)"],
        ["ban-1", "82.00 ± 1.00 (82.00, 81.00, 83.00)"],
        ["ban-2", "84.00 ± 2.65 (83.00, 82.00, 87.00)"],
        ["ban-3 (2 of 3 seeds)", "85.00 ± 1.41 (84.00, 86.00)"],
        ["first 2 members (together)", "85.00 ± 1.00 (85.00, 84.00, 86.00)"],
        ["first 3 members (2 of 3 seeds) (together)", "87.00 ± 1.41 (86.00, 88.00)"],
    ]
    assert [str(cell) for cell in table.rows[4][2:]] == [
        "0.4667 ± 0.0577 (0.4000, 0.5000, 0.5000)", "0.0570 ± 0.0225 (0.0310, 0.0700, 0.0700)"]  # fmt: skip


def test_the_seed_with_most_networks_sets_the_order() -> None:
    names = [str(row[0]) for row in generations.table(ensembles([THREE[1], THREE[0]])).rows[:4]]
    assert names == ["ban-0 (no member)", "ban-1", "ban-2", "ban-3 (1 of 2 seeds)"]


def born_again(out: Path, contents: Sequence[Any] = THREE) -> RunRecord:
    """A run of generations with a seed per content: each has the accuracy that its ensemble's file says."""
    rows = []
    for seed, content in enumerate(contents):
        made: list[str] = []
        for number, network in enumerate(content["networks"]):
            metrics = {"parameters": 1000, "accuracy": {"selected": network["accuracy"]}}
            uses, inputs = ("distill", {"teacher": made[-1]}) if number else ("train", {})
            payload = {"spec.json": {"seed": seed, "number": number}}
            artifact = write_artifact(out, network["name"], uses, seed, payload, metrics, {}, inputs)
            made.append(artifact.content)
            rows.append(Row.of(artifact, cached=False))
        last = (content["ensembles"] or content["networks"])[-1]["accuracy"]
        metrics = {"parameters": 1000 * (len(made) - 1), "accuracy": dict.fromkeys(("last", "best", "selected"), last)}
        inputs = {f"networks.{number}": found for number, found in enumerate(made[1:])}
        artifact = write_artifact(out, "ban", "ensemble", seed, {"ensemble.json": content}, metrics, {}, inputs)
        rows.append(Row.of(artifact, cached=False))
    record = fake_run(out / "other", name="born again")
    return replace(record, rows=tuple(rows), seeds=tuple(range(len(contents))))


def together(record: RunRecord) -> Part | None:
    found = [section for section in sections(by_stage(record.rows)) if section.title == "Ensembles"]
    return found[0] if found else None


def test_an_ensemble_has_a_section_and_other_runs_have_none(tmp_path: Path, one_seed: tuple[RunRecord, Path]) -> None:
    section = together(born_again(tmp_path))
    assert section is not None
    assert [(group.title, len(group.pictures), group.table is None) for group in section.groups] == [
        ("ban", 2, False), ("ban: reliability diagrams", 3, True)]  # fmt: skip
    assert together(one_seed[0]) is None


def test_the_page_tells_what_each_generation_and_the_ensemble_gain(tmp_path: Path) -> None:
    page = page_of(born_again(tmp_path), tmp_path)
    assert_asks_for_nothing(page)
    for words in (
        "82.00 ± 1.00 %, 1.00 points over its teacher ban-0 (95 % interval",
        # 3, 1 and 5 points over ban-0, t = 4.303; 1, 1 and 4 points over ban-1
        "84.00 ± 2.65 %, 3.00 points over ban-0 (95 % interval -1.97 to +7.97: it may be chance); "
        "2.00 points over its teacher ban-1",
        "level with its teacher ban-2 (95 % interval -12.71 to +12.71: it may be chance); ran with 2 of 3 seeds.",
        # 86 over 84, 84 over 82, 88 over 87, which was the second member
        "86.00 ± 2.00 %, 1.67 points over the best of its 2 to 3 members (95 % interval +0.23 to +3.10).",
        "Ensembles", "first 3 members (2 of 3 seeds)",
    ):  # fmt: skip
        assert words in page.reads, words
    assert page.count("svg") == 1 + 2 + 3


def test_an_ensemble_of_one_gains_nothing_that_could_be_told(tmp_path: Path) -> None:
    *earlier, ensemble = by_stage(born_again(tmp_path, [content_of(80, [82])]).rows)
    assert gain(ensemble, earlier) == "82.00 %, 2.00 points over ban-0."


def test_a_damaged_file_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = born_again(tmp_path, [changed("agreement", to=[])])
    with caplog.at_level(logging.WARNING):
        page = page_of(record, tmp_path)
    assert page.reads.count("one per network at the top.") == 1
    assert "over the best of its" not in page.reads
    assert re.search(r"ensemble\.json cannot be shown: .* one per network .*; the report leaves it out", caplog.text)


def test_whatever_a_payload_holds_that_is_read_can_be_drawn(tmp_path: Path) -> None:
    """Seeds that have nothing in common, a network that is a member in one alone, counts at both ends of the scale."""
    other = content_of(0, [0.0, 100.0, 100.0], [0.0, 100.0], off=0)
    other["networks"] = other["networks"][::-1]
    for entry in (*other["networks"], *other["ensembles"]):
        entry |= {"loss": 2.0**53, "calibration_error": 1.0, "bins": [*EMPTY * 14, [1e-300, 0, 0]]}
    strange = content_of(80, [81.0])
    strange["networks"][0]["name"] = "\ud800"
    page = page_of(born_again(tmp_path, [THREE[0], other, strange]), tmp_path)
    assert page.count("svg") == 1 + 2 + 3


def test_names_with_markup_are_inert(tmp_path: Path) -> None:
    content = copy.deepcopy(THREE[0])
    for number, network in enumerate(content["networks"]):
        network["name"] = f"{HOSTILE}{number}"
    page = page_of(born_again(tmp_path, [content]), tmp_path)
    assert_asks_for_nothing(page)
    assert page.reads.count("</text><script>") > 10
    for svg in (*generations.draw(ensembles([content])), *generations.draw_reliability(ensembles([content]))):
        assert "<script" not in svg
        assert parsed(svg.replace("\x00", "")) is not None
