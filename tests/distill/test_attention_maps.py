"""Attention maps for the report: which images, which pairs, what is written, and how alike two maps are."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nasdistill.data.base import Data, ImageSet, Normalisation
from nasdistill.distill.attention_maps import attention_similarity, compare_attention, images_to_show
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.registry import build
from nasdistill.report import payloads
from nasdistill.report.sections.attention_maps import AttentionPayload
from nasdistill.stages import STAGES
from nasdistill.training.engine import Engine, EngineSettings
from tests.distill.nets import TwoMaps
from tests.stages.parts import context_in, few_digits, network_artifact

OWN = Normalisation(mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineSettings(accelerator="cpu", precision="32"))


def data(images: int = 7, height: int = 6, width: int = 6, channels: int = 1) -> Data:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, channels, height, width), dtype=torch.uint8, generator=generator)
    test = ImageSet(pixels, torch.arange(images) % 3)
    normalisation = Normalisation(mean=(0.3,) * channels, std=(0.2,) * channels)
    return Data(test, test, test, ("cat", "dog", "bird"), normalisation)


def network(channels: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return TwoMaps(channels)


def compared(
    engine: Engine, student: nn.Module, *teachers: Teacher, objectives: Sequence[object] = ("kd",), show: Any = (0, 4),
    of: Data | None = None,
) -> Any:  # fmt: skip
    parsed = [OBJECTIVES.parse(objective) for objective in objectives]
    return compare_attention(student, teachers, parsed, show, of or data(), engine)


def values(grid: list[str]) -> np.ndarray:
    return np.array([[int(row[at : at + 2], 16) for at in range(0, len(row), 2)] for row in grid])


def numpy_map(activation: torch.Tensor, power: float = 2) -> np.ndarray:
    found: np.ndarray = (np.abs(activation.detach().double().numpy()) ** power).mean(axis=1)
    return found


def test_the_first_image_of_each_of_six_classes_is_shown() -> None:
    assert images_to_show(None, torch.tensor([2, 2, 0, 1, 0])) == [2, 3, 0]
    assert images_to_show(None, torch.arange(10).repeat(2).flip(0)) == [9, 8, 7, 6, 5, 4]
    assert images_to_show([4, 0], torch.zeros(5)) == [4, 0]
    assert images_to_show([], torch.zeros(5)) == []


def test_an_image_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError, match="there is no test image 5; the last one is 4") as error:
        images_to_show([0, 5], torch.zeros(5))
    assert error.value.path == ("show", 1)


@pytest.mark.parametrize(("options", "shown"), [({}, 6), ({"show": [7]}, 1), ({"show": []}, 0)])
def test_the_stage_writes_them_beside_the_student(options: dict[str, Any], shown: int, tmp_path: Path) -> None:
    digits = few_digits()
    given = {"student": "wrn-10-1", "teacher": "teacher", "epochs": 1, **options}
    teacher = network_artifact(tmp_path / "teacher", digits, "wrn-10-1")
    context = context_in(tmp_path, digits)
    metrics = build(STAGES.get("distill"), given).run({"teacher": teacher}, context).metrics
    assert (context.folder / "attention.json").is_file() == ("attention_similarity" in metrics) == bool(shown)
    if shown:
        content = payloads.read(AttentionPayload, context.folder)  # what the report reads
        assert content is not None
        assert len(content.images) == shown
        assert metrics["attention_similarity"] == pytest.approx(np.mean([pair.similarity for pair in content.pairs]))


@pytest.mark.parametrize(
    ("model", "options", "shown"), [("wrn-10-1", {}, 6), ("wrn-10-1", {"show": []}, 0), ("mlp-8", {}, 0)]
)
def test_a_network_without_a_teacher_has_maps_of_its_own(
    model: str, options: dict[str, Any], shown: int, tmp_path: Path
) -> None:
    context = context_in(tmp_path, few_digits())
    metrics = build(STAGES.get("train"), {"model": model, "epochs": 1, **options}).run({}, context).metrics
    assert "attention_similarity" not in metrics
    content = payloads.read(AttentionPayload, context.folder)
    assert len(content.images if content else ()) == shown
    if content:
        assert not content.taught
        assert [pair.student for pair in content.pairs] == ["groups.0", "groups.1", "groups.2"]


def test_a_network_without_a_teacher_shows_the_points_that_are_named(engine: Engine, tmp_path: Path) -> None:
    found = compare_attention(network(), (), (), (0,), data(), engine, ["second"])
    assert found is not None
    assert [pair["student"] for pair in found["pairs"]] == ["second"]
    stage = build(STAGES.get("train"), {"model": "wrn-10-1", "show_points": ["groups.0", "groups.3"]})
    for tried in (stage.run, stage.foresee):
        with pytest.raises(SpecError, match=r"the network has no module 'groups.3'; did you mean") as error:
            tried({}, context_in(tmp_path, few_digits()))  # type: ignore[operator]
        assert error.value.path == ("show_points",)


def test_maps_without_a_teacher_are_those_that_stand_beside_one(engine: Engine) -> None:
    student = network()
    alone, taught = compared(engine, student), compared(engine, student, Teacher(network(8, 1)))
    assert (alone["similarity"], [pair["teacher"] for pair in alone["pairs"]]) == (None, [None, None])
    assert [pair["student"] for pair in alone["pairs"]] == [pair["student"] for pair in taught["pairs"]]
    for own, beside in zip(alone["pairs"], taught["pairs"], strict=True):
        assert own["maps"] == [[ours] for ours, _theirs in beside["maps"]]
    assert [image | {"teachers": []} for image in taught["images"]] == alone["images"]


def test_the_stage_names_an_image_that_is_not_there_before_it_trains(tmp_path: Path) -> None:
    digits = few_digits()
    stage = build(STAGES.get("distill"), {"student": "wrn-10-1", "teacher": "teacher", "show": [80]})
    with pytest.raises(SpecError, match="there is no test image 80; the last one is 79"):
        stage.run({}, context_in(tmp_path, digits))
    with pytest.raises(SpecError, match="at least 0"):
        build(STAGES.get("distill"), {"student": "wrn-10-1", "teacher": "teacher", "show": [-1]})
    with pytest.raises(SpecError, match="at most 12"):
        build(STAGES.get("distill"), {"student": "wrn-10-1", "teacher": "teacher", "show": [0] * 13})


def test_similarity_is_the_cosine() -> None:
    one = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    other = torch.tensor([[[4.0, 0.0], [0.0, 3.0]], [[0.0, 5.0], [0.0, 0.0]]])
    torch.testing.assert_close(attention_similarity(one, other), torch.tensor([24 / 25, 0.0]))
    torch.testing.assert_close(attention_similarity(one, 7 * one), torch.ones(2))


def test_similarity_of_maps_of_two_sizes_is_that_of_their_means() -> None:
    large = torch.tensor([[[1.0, 3.0], [2.0, 6.0]]])
    small = torch.tensor([[[2.0, 1.0]]])  # the columns' means are 1.5 and 4.5
    expected = (1.5 * 2 + 4.5) / np.hypot(1.5, 4.5) / np.hypot(2, 1)
    for pair in ((large, small), (small, large)):
        assert float(attention_similarity(*pair)) == pytest.approx(expected)


def test_maps_predictions_and_pixels_are_those_of_the_networks(engine: Engine) -> None:
    """Once more by hand: each network on the images in its own normalisation, in evaluation mode."""
    student, teacher, given = network(), network(8, 1), data()
    found = compared(engine, student, Teacher(teacher, OWN), show=(4, 0), of=given)
    test = given.test
    assert isinstance(test, ImageSet)
    pixels = test.images / 255
    said, features = [], []
    for each, images in ((student, (pixels - 0.3) / 0.2), (teacher, (pixels - 0.5) / 0.25)):
        each = copy.deepcopy(each).eval()
        first = each.first(images)  # type: ignore[operator]
        features.append((numpy_map(first), numpy_map(each.second(first))))  # type: ignore[operator]
        said.append(each(images).argmax(1))
    assert [(pair["student"], pair["teacher"], pair["number"]) for pair in found["pairs"]] == [
        ("first", "first", 0), ("second", "second", 0)]  # fmt: skip
    similarities = []
    for place, pair in enumerate(found["pairs"]):
        ours, theirs = features[0][place], features[1][place]
        cosines = (ours * theirs).sum((1, 2)) / np.sqrt((ours**2).sum((1, 2)) * (theirs**2).sum((1, 2)))
        similarities.append(cosines.mean())
        assert pair["similarity"] == pytest.approx(cosines.mean(), abs=1e-6)
        for index, grids in zip((4, 0), pair["maps"], strict=True):
            for grid, maps in zip(grids, (ours, theirs), strict=True):
                np.testing.assert_allclose(values(grid), 255 * maps[index] / maps[index].max(), atol=0.51)
    assert found["similarity"] == pytest.approx(np.mean(similarities), abs=1e-6)
    for index, image in zip((4, 0), found["images"], strict=True):
        assert image["index"] == index
        assert image["label"] == given.classes[index % 3]
        assert image["student"] == given.classes[int(said[0][index])]
        assert image["teachers"] == [given.classes[int(said[1][index])]]
        np.testing.assert_array_equal(values(image["pixels"][0]), test.images[index, 0])


def test_equal_networks_attend_alike(engine: Engine) -> None:
    found = compared(engine, network(), Teacher(network()))
    assert found["similarity"] == pytest.approx(1)
    assert all(ours == theirs for pair in found["pairs"] for ours, theirs in pair["maps"])


def test_a_listed_attention_says_which_points_and_which_power(engine: Engine) -> None:
    student, given = network(), data()
    attention = {"name": "attention", "pairs": [["first", "second"]], "power": 4}
    found = compared(engine, student, Teacher(network(8, 1)), objectives=["kd", attention], of=given)
    (pair,) = found["pairs"]
    assert (pair["student"], pair["teacher"]) == ("first", "second")
    assert isinstance(given.test, ImageSet)
    maps = numpy_map(student.eval().first((given.test.images / 255 - 0.3) / 0.2), 4)  # type: ignore[operator]
    np.testing.assert_allclose(values(pair["maps"][0][0]), 255 * maps[0] / maps[0].max(), atol=0.51)
    assert [values(grid).shape for grid in pair["maps"][0]] == [(6, 6), (3, 3)]


def test_several_teachers_each_have_their_pairs(engine: Engine) -> None:
    student = network()
    found = compared(engine, student, Teacher(network(8, 1)), Teacher(network(6, 2), OWN))
    assert [(pair["number"], pair["teacher"]) for pair in found["pairs"]] == [
        (0, "first"), (0, "second"), (1, "first"), (1, "second")]  # fmt: skip
    alone = compared(engine, student, Teacher(network(6, 2), OWN))
    for together, single in zip(found["pairs"][2:], alone["pairs"], strict=True):
        assert together | {"number": 0} == single
    for image, single in zip(found["images"], alone["images"], strict=True):
        assert image["teachers"][1:] == single["teachers"]


def test_networks_are_left_as_they_are(engine: Engine) -> None:
    student, teacher = network().train(), network(8, 1).train()
    before = [copy.deepcopy(each.state_dict()) for each in (student, teacher)]
    random = torch.get_rng_state()
    compared(engine, student, Teacher(teacher))
    assert torch.equal(torch.get_rng_state(), random)
    for each, state in zip((student, teacher), before, strict=True):
        assert all(module.training for module in each.modules())
        assert not any(module._forward_hooks for module in each.modules())
        assert all(parameter.requires_grad for parameter in each.parameters())
        assert all(torch.equal(value, state[name]) for name, value in each.state_dict().items())


@pytest.mark.parametrize("teacher", ["mlp-8", "wrn-10-1"])
def test_networks_without_maps_have_nothing_to_show(
    teacher: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    student = MODELS.parse("mlp-8").build((1, 6, 6), 3)
    with caplog.at_level(logging.INFO):
        assert compared(engine, student, Teacher(MODELS.parse(teacher).build((1, 6, 6), 3))) is None
    assert "no attention maps are kept for the report: the student has no feature points" in caplog.text


def test_points_of_single_pixels_are_left_out(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    class Flat(TwoMaps):
        feature_points = ("first", "classifier")

    found = compared(engine, Flat(), Teacher(Flat()))
    assert [pair["student"] for pair in found["pairs"]] == ["first"]
    Flat.feature_points = ("dropout", "classifier")
    with caplog.at_level(logging.INFO):
        assert compared(engine, Flat(), Teacher(Flat())) is None
    assert "the points that match have no height and width" in caplog.text


def test_points_that_cannot_be_read_are_no_error_after_hours_of_training(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    class Twice(TwoMaps):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(self.first(images)[:, :1])

    with caplog.at_level(logging.INFO):
        assert compared(engine, Twice(), Teacher(network())) is None
    assert "no attention maps are kept for the report: the student's module 'first' is called more" in caplog.text


def test_no_image_no_maps(engine: Engine) -> None:
    assert compared(engine, network(), Teacher(network()), show=()) is None


def test_large_images_are_shrunk_and_the_file_stays_small(engine: Engine) -> None:
    """Twelve images, the most that a stage shows, of networks of three pairs."""
    large = data(13, 100, 200, channels=3)
    student = nn.Sequential(nn.AdaptiveAvgPool2d((90, 120)), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.LazyLinear(3))
    student(torch.zeros(1, 3, 100, 200))
    attention = {"name": "attention", "pairs": [["0", "1"], ["1", "0"], ["1", "1"]]}
    found = compared(engine, student, Teacher(copy.deepcopy(student)), objectives=[attention], show=range(12), of=large)
    assert [values(grid).shape for grid in found["images"][0]["pixels"]] == [(32, 64)] * 3
    assert values(found["pairs"][0]["maps"][0][0]).shape == (24, 32)
    assert len(json.dumps(found, indent=2)) < 1_000_000


def test_a_waveform_keeps_its_samples(engine: Engine) -> None:
    """Averaged down to 64 places it would be silence."""
    waves = data(2, 1, 1024)
    student = MODELS.parse("wave-5-4").build((1, 1, 1024), 3).eval()
    found = compared(engine, student, Teacher(student), show=[1], of=waves)
    samples = waves.test.images[1, 0].tolist()  # type: ignore[union-attr]
    np.testing.assert_array_equal(values(found["images"][0]["pixels"][0]), samples)
    assert [values(pair["maps"][0][0]).shape for pair in found["pairs"]] == [(1, 32), (1, 16), (1, 4)]


def test_constant_zero_maps_are_dark(engine: Engine) -> None:
    class Dead(TwoMaps):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images * 0)

    student = Dead()
    for conv in (student.first[0], student.second[0]):
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    found = compared(engine, student, Teacher(network()))
    assert set(found["pairs"][0]["maps"][0][0]) == {"00" * 6}
    assert found["similarity"] == 0


def test_the_similarity_is_spread_over_a_sorted_test_set(engine: Engine) -> None:
    """Of 1003 images sorted by class, 500 are compared: from the first to the last one."""
    given = data(1003)
    assert isinstance(given.test, ImageSet)
    places = np.round(np.linspace(0, 1002, 500)).astype(int)
    few = dataclasses.replace(given, test=given.test.subset(torch.tensor(places)))
    student, teacher = network(), Teacher(network(8, 1))
    found, expected = (compared(engine, student, teacher, of=each) for each in (given, few))
    assert found["similarity"] == pytest.approx(expected["similarity"], abs=1e-9)
