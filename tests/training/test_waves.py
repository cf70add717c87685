"""The line that a waveform draws."""

from __future__ import annotations

import numpy as np
import pytest

from nasdistill.training.waves import traced


def drawn(samples: list[int], height: int, width: int) -> list[str]:
    rows = traced(np.array([samples], dtype=np.uint8), height, width)
    return ["".join("#" if pixel else "." for pixel in row) for row in rows]


def test_a_line_goes_through_the_samples() -> None:
    assert drawn([0, 85, 170, 255], 4, 4) == ["..##", ".##.", "##..", "#..."]


def test_silence_is_one_line() -> None:
    assert drawn([255] * 6, 3, 4) == ["####", "....", "...."]


def test_no_peak_is_lost_among_many_samples() -> None:
    samples = [128] * 1000
    samples[503] = 255
    assert drawn(samples, 3, 5) == ["..#..", "#####", "....."]


def test_few_samples_are_steps() -> None:
    assert drawn([0, 255], 2, 4) == [".###", "##.."]


@pytest.mark.parametrize(("samples", "width"), [(100, 7), (64, 64), (5, 40), (1, 3), (1024, 128)])
def test_as_column_by_column(samples: int, width: int) -> None:
    """A second way: the pixels between each sample and the next, in the column that the sample is in."""
    height = 256
    wave = np.random.default_rng(0).integers(0, 256, samples)
    picture = traced(wave.astype(np.uint8)[None], height, width)
    for column in range(width):
        first, last = column * samples // width, (column + 1) * samples // width
        seen = [wave[at] for at in range(first, last + 1) if at < samples]
        white = [row for row in range(height) if min(seen) <= 255 - row <= max(seen)]
        assert np.flatnonzero(picture[:, column]).tolist() == white


def test_batches_and_channels_are_drawn_one_by_one() -> None:
    waves = np.random.default_rng(0).integers(0, 256, (3, 2, 1, 50)).astype(np.uint8)
    pictures = traced(waves, 16, 20)
    assert pictures.shape == (3, 2, 16, 20)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures[2, 1], traced(waves[2, 1], 16, 20))
