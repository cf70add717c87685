"""Limit, validation split and normalisation of a data set that a test makes up."""

import dataclasses
import hashlib
from typing import Any

import pytest
import torch

from nasdistill.data.base import DataSet, ImageSet, RawData
from nasdistill.data.preparation import load, with_few_images
from nasdistill.errors import SpecError, UserError
from nasdistill.registry import build


class Numbered(DataSet):
    """Image n has the value n everywhere, so that each can be told; class n % 4."""

    def fingerprint(self) -> str:
        return hashlib.sha256(b"numbered").hexdigest()

    def read(self) -> RawData:
        return RawData(train=numbered(0, 200), test=numbered(200, 240), classes=("a", "b", "c", "d"))


def numbered(first: int, last: int) -> ImageSet:
    numbers = torch.arange(first, last)
    return ImageSet(numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 3, 3), numbers % 4)


def numbers_of(images: Any) -> list[int]:
    found: list[int] = images.images[:, 0, 0, 0].tolist()
    return found


def test_train_and_validation_share_the_training_set_and_the_test_set_stays() -> None:
    data = load(Numbered(validation=0.2), 0)
    assert sorted(numbers_of(data.train) + numbers_of(data.validation)) == list(range(200))
    assert data.validation.labels.bincount().tolist() == [10] * 4
    assert numbers_of(data.test) == list(range(200, 240))


def test_the_seed_chooses_the_validation_set() -> None:
    first, again, other = (numbers_of(load(Numbered(), seed).validation) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_limit_counts_images_of_the_training_set_and_keeps_the_classes_even() -> None:
    first, second = (load(Numbered(limit=40, validation=0.1), seed) for seed in (0, 1))
    for data in (first, second):
        assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 40)
        assert data.train.labels.bincount().tolist() == [9] * 4
    used = [sorted(numbers_of(data.train) + numbers_of(data.validation)) for data in (first, second)]
    assert used[0] == used[1]


def test_a_limit_beyond_the_set_changes_nothing() -> None:
    assert len(load(Numbered(limit=1000), 0).train) == len(load(Numbered(), 0).train)


def test_a_few_images_of_each_class_and_all_else_as_it_was() -> None:
    data = load(Numbered(validation=0.2), 0)
    few = with_few_images(data, 3, seed=0)
    assert few.train.labels.bincount().tolist() == [3] * 4
    assert set(numbers_of(few.train)) < set(numbers_of(data.train))
    assert (few.validation, few.test, few.normalisation) == (data.validation, data.test, data.normalisation)


def test_the_class_with_too_few_is_named() -> None:
    data = load(Numbered(), 0)
    poor = dataclasses.replace(data, train=data.train.subset((data.train.labels != 2).nonzero().flatten()))
    with pytest.raises(UserError, match=r"^the class 'c' has 0 training image\(s\); 3 are wanted of each class$"):
        with_few_images(poor, 3, seed=0)
    with pytest.raises(UserError, match=r"the class 'a' has 45 training image\(s\); 46 are wanted"):
        with_few_images(data, 46, seed=0)


def test_normalisation_comes_from_the_training_part_alone() -> None:
    data = load(Numbered(), 0)
    values = torch.tensor(numbers_of(data.train), dtype=torch.float64) / 255
    assert data.normalisation.mean == pytest.approx([float(values.mean())] * 2)
    assert data.normalisation.std == pytest.approx([float(values.std(correction=0))] * 2)


def test_a_given_normalisation_is_taken() -> None:
    given = {"mean": [0.1, 0.2], "std": [0.3, 0.4]}
    assert load(build(Numbered, {"normalisation": given}), 0).normalisation.std == (0.3, 0.4)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"mean": [0.1], "std": [1, 1]}, "have 2 channel.*but 1 number"),
        ({"mean": [0.1, 0.1], "std": [1, 1, 1]}, "have 2 channel.*but 3 number"),
    ],
)
def test_a_normalisation_for_other_images_is_refused(given: dict[str, list[float]], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        load(build(Numbered, {"normalisation": given}), 0)


@pytest.mark.parametrize(
    "options", [{"validation": 0}, {"validation": 1}, {"limit": 0}, {"normalisation": {"mean": [0], "std": [0]}}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        build(Numbered, options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"limit": 5}, "the class 'b' has 1 training image"),
        ({"validation": 0.99}, "less than one image for each of 4 classes"),
    ],
)
def test_too_few_images_for_a_split(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load(Numbered(**options), 0)
