"""What is shown of pseudo-images, beside the same by numpy and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nasdistill.data.base import Normalisation
from nasdistill.zero_shot.pictures import as_pixels, described

KNOWN = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def normalised(pixels: np.ndarray) -> torch.Tensor:
    scaled = (pixels / 255 - np.array(KNOWN.mean)[:, None, None]) / np.array(KNOWN.std)[:, None, None]
    return torch.from_numpy(scaled).float()


def some_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_normalised_images_become_the_pixels_that_they_were_and_are_clipped() -> None:
    pixels = some_pixels(2, 3, 8, 5)
    assert np.array_equal(as_pixels(normalised(pixels), KNOWN).numpy(), pixels)
    far = torch.tensor([-100.0, 100.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert as_pixels(far, KNOWN).unique().tolist() == [0, 255]
    assert as_pixels(far, KNOWN)[0].max() == 0


def test_where_nobody_knows_the_normalisation_the_values_found_are_spread_from_black_to_white() -> None:
    images = torch.tensor([-3.0, -1.0, 0.0, 1.0]).view(1, 1, 2, 2)
    assert as_pixels(images, None).flatten().tolist() == [0, 128, 191, 255]
    assert as_pixels(torch.full((1, 1, 2, 2), 7.0), None).unique().tolist() == [0], "one value alone is no error"


@pytest.mark.parametrize(("height", "width", "shown"), [(128, 192, (64, 96)), (65, 70, (33, 35)), (64, 500, (64, 500))])
def test_large_images_are_averaged_down(height: int, width: int, shown: tuple[int, int]) -> None:
    pixels = some_pixels(1, 3, height, width)
    found = as_pixels(normalised(pixels), KNOWN)[0].numpy()
    factor = height // shown[0] + (height % shown[0] > 0)
    expected = [np.asarray(Image.fromarray(channel).reduce(factor), dtype=int) for channel in pixels[0]]
    assert found.shape == (3, *shown)
    assert np.abs(found - np.stack(expected)).max() <= 1


def test_waveforms_keep_every_sample() -> None:
    assert as_pixels(torch.randn(2, 1, 1, 8000), None).shape == (2, 1, 1, 8000)


def test_a_picture_as_plain_data() -> None:
    pixels = some_pixels(2, 3, 4, 5)
    counts = torch.tensor([[1, 1], [0, 2]])
    picture = {"done": 7, "pixels": torch.from_numpy(pixels), "histograms": counts}
    told = described([picture], ["cat", "dog"])
    assert told["classes"] == ["cat", "dog"]
    (only,) = told["pictures"]
    rows = [[[list(bytes.fromhex(row)) for row in channel] for channel in image] for image in only["images"]]
    assert np.array_equal(np.array(rows), pixels)
    assert (only["done"], only["student"], only["teacher"]) == (7, [1, 1], [0, 2])
