"""Images in another normalisation: against the pixels that both were made of."""

from __future__ import annotations

import pytest
import torch

from nasdistill.data.base import Normalisation
from nasdistill.models.renormalisation import renormalisation

COLOURS = Normalisation(mean=(0.2, 0.5, 0.7), std=(0.5, 0.1, 0.3))
OTHERS = Normalisation(mean=(0.4, 0.4, 0.45), std=(0.25, 0.26, 0.2))


def normalised(pixels: torch.Tensor, by: Normalisation) -> torch.Tensor:
    return torch.stack([(pixels[:, c] - by.mean[c]) / by.std[c] for c in range(3)], dim=1)


def test_the_same_pixels_come_out_in_the_other_normalisation() -> None:
    pixels = torch.rand(4, 3, 5, 6)
    found = renormalisation(COLOURS, OTHERS)(normalised(pixels, COLOURS))
    torch.testing.assert_close(found, normalised(pixels, OTHERS), atol=2e-6, rtol=0)


@pytest.mark.parametrize("own", [None, COLOURS])
def test_equal_or_unknown_normalisations_change_nothing(own: Normalisation | None) -> None:
    images = torch.randn(2, 3, 4, 4)
    assert renormalisation(COLOURS, own)(images) is images
    assert renormalisation(None, OTHERS)(images) is images


def test_the_memory_format_stays() -> None:
    images = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    module = renormalisation(COLOURS, OTHERS).to(memory_format=torch.channels_last)
    assert module(images).is_contiguous(memory_format=torch.channels_last)
    assert module(images.contiguous()).is_contiguous()
