"""Normalisation against numpy."""

import numpy as np
import pytest
import torch

from nasdistill.data.base import ImageFiles, ImageSet
from nasdistill.data.statistics import computed_normalisation, pixel_sums


def random_images(count: int) -> torch.Tensor:
    return torch.randint(256, (count, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_mean_and_deviation_are_those_of_numpy() -> None:
    images = random_images(2000)
    scaled = images.numpy().astype(np.float64) / 255
    found = computed_normalisation(ImageSet(images, torch.zeros(2000, dtype=torch.int64)))
    assert found.mean == pytest.approx(scaled.mean((0, 2, 3)), rel=1e-12)
    assert found.std == pytest.approx(scaled.std((0, 2, 3)), rel=1e-12)


def test_files_give_the_same_as_pixels_in_memory() -> None:
    images, labels = random_images(9), torch.zeros(9, dtype=torch.int64)
    files = ImageFiles((), labels, (3, 5, 7), *pixel_sums(images), workers=0)
    assert computed_normalisation(files) == computed_normalisation(ImageSet(images, labels))


def test_a_channel_of_one_value_is_not_scaled() -> None:
    images = torch.full((4, 1, 2, 2), 51, dtype=torch.uint8)
    found = computed_normalisation(ImageSet(images, torch.zeros(4, dtype=torch.int64)))
    assert (found.mean, found.std) == ((0.2,), (1.0,))
