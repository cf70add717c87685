"""Synthetic tones: each kind against its formula in other hands, and what makes the set worth learning from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from scipy import signal
from sklearn.linear_model import LogisticRegression

from nasdistill.data.base import DATASETS
from nasdistill.data.sets import synthetic_tones
from nasdistill.data.sets.synthetic_tones import KINDS, LOUDNESS, PITCHES, RATE, SyntheticTones, Wave, pcm, tones
from nasdistill.errors import SpecError

LENGTH = 1024
SECONDS = np.arange(LENGTH) / RATE


def column(*values: float) -> Wave:
    return np.array(values)[:, None]


def drawn(kind: str, count: int = 50) -> Wave:
    """Waveforms of a kind, without noise and at full scale."""
    return KINDS[kind](RandomState(0), count, LENGTH)


def instantaneous_frequency(waves: Wave) -> Wave:
    """In Hz, from the analytic signal, averaged over 32 samples, without the ends."""
    turns = np.unwrap(np.angle(signal.hilbert(waves))) / (2 * np.pi)
    return np.asarray((turns[:, 32:] - turns[:, :-32])[:, 64:-64] * RATE / 32)


@pytest.mark.parametrize(
    ("weight", "ideal"),
    [
        (synthetic_tones.square_weight, signal.square),
        (synthetic_tones.sawtooth_weight, lambda x: -signal.sawtooth(x)),
        (synthetic_tones.triangle_weight, lambda x: signal.sawtooth(x + np.pi / 2, 0.5)),
    ],
)
def test_the_weights_are_the_fourier_coefficients_of_the_ideal_wave(
    weight: Callable[[int], float], ideal: Callable[[Wave], Wave]
) -> None:
    x = (np.arange(100_000) + 0.5) * 2 * np.pi / 100_000
    for k in range(1, 9):
        assert weight(k) == pytest.approx(2 * np.mean(ideal(x) * np.sin(k * x)), abs=1e-6)


def test_no_harmonic_is_folded_back_from_beyond_half_the_rate() -> None:
    """500 and 1500 Hz are bins 64 and 192 of 1024; the harmonics of both end below bin 512."""
    waves = synthetic_tones.periodic(column(500, 1500), column(0.3, 0.1), LENGTH, synthetic_tones.sawtooth_weight)
    heard = [np.flatnonzero(np.abs(spectrum) > 1e-6).tolist() for spectrum in np.fft.rfft(waves)]
    assert heard == [[64, 128, 192, 256, 320, 384, 448], [192, 384]]


def test_a_sweep_is_that_of_scipy() -> None:
    found = synthetic_tones.sweep(column(300, 500), column(900, 200), column(0, 0.25), LENGTH)
    ends = LENGTH / RATE
    np.testing.assert_allclose(found[0], signal.chirp(SECONDS, 300, ends, 900, phi=-90), atol=1e-9)
    np.testing.assert_allclose(found[1], signal.chirp(SECONDS, 500, ends, 200, phi=0), atol=1e-9)


def test_a_string_is_the_average_of_itself_a_period_ago() -> None:
    noise = RandomState(0).uniform(-1, 1, (2, 60))
    periods = np.array([7, 13])
    found = synthetic_tones.plucked(noise, periods)
    for sound, raw, period in zip(found, noise, periods, strict=True):
        expected = list(raw[: period + 1])
        for t in range(period + 1, 60):
            expected.append((expected[t - period] + expected[t - period - 1]) / 2)
        np.testing.assert_array_equal(sound, expected)


def test_a_string_sounds_half_a_sample_below_its_period() -> None:
    """The fundamental is RATE / (P + 1/2), Karplus and Strong 1983, section 2.3."""
    sound = synthetic_tones.plucked(RandomState(0).uniform(-1, 1, (1, 16_000)), np.array([40]))
    frequencies, power = signal.periodogram(sound[0, 4000:], RATE)
    assert frequencies[power.argmax()] == pytest.approx(RATE / 40.5, abs=1)


def test_pitches_are_spread_evenly_in_octaves() -> None:
    low, high = PITCHES
    frequencies = instantaneous_frequency(drawn("sine", 400)).mean(axis=1)
    assert low * 0.98 < frequencies.min() < low * 1.1
    assert high * 0.9 < frequencies.max() < high * 1.02
    assert np.median(frequencies) == pytest.approx(np.sqrt(low * high), rel=0.1)


def test_sweeps_rise_by_half_to_three_times_and_fall_likewise() -> None:
    for kind, ends in (("rising", (-1, 0)), ("falling", (0, -1))):
        frequencies = instantaneous_frequency(drawn(kind))
        to, of = (frequencies[:, end] for end in ends)
        assert (to / of > 1.3).all()
        assert (to / of < 3).all()


def test_tremolo_is_one_frequency_and_vibrato_one_loudness() -> None:
    tremolo, vibrato = drawn("tremolo"), drawn("vibrato")
    envelope = np.abs(signal.hilbert(tremolo))[:, 100:-100]
    assert (envelope.min(axis=1) < 0.5).all()  # (1 - m) / (1 + m) with m from 0.5 to 1 is at most 1/3
    assert (envelope.max(axis=1) > 0.9).all()
    envelope = np.abs(signal.hilbert(vibrato))[:, 100:-100]
    assert (envelope.min(axis=1) > 0.7).all()
    frequencies = instantaneous_frequency(vibrato)
    swing = (frequencies.max(axis=1) - frequencies.min(axis=1)) / frequencies.mean(axis=1) / 2
    assert (swing > 0.05).all()
    assert (swing < 0.35).all()


def test_bursts_and_strings_are_silent_before_they_begin() -> None:
    energy = np.square(drawn("burst")).reshape(50, 16, -1).mean(axis=2)
    assert ((energy > 0.1 * energy.max(axis=1, keepdims=True)).sum(axis=1) <= 8).all()
    string = drawn("plucked")
    starts = (string != 0).argmax(axis=1)
    assert len(set(starts)) > 30
    assert starts.max() < LENGTH / 4
    power = np.square(string).reshape(50, 4, -1).mean(axis=2)
    assert (power[:, 3] < power[:, 1]).all()  # they die away


def test_noise_and_loudness_are_those_asked_for() -> None:
    quiet, noisy = (tones("test", 20, LENGTH, noise) for noise in (0.0, 0.1))
    assert np.std(noisy - quiet) == pytest.approx(0.1, rel=0.01)
    peaks = np.abs(quiet[:20]).max(axis=1)  # sines
    assert LOUDNESS[0] * 0.99 < peaks.min() < peaks.max() < LOUDNESS[1]


def test_pcm_is_eight_bit_and_linear() -> None:
    assert pcm(np.array([0, 1, -1, 0.5, 2, -2, 1 / 127])).tolist() == [128, 255, 1, 192, 255, 0, 129]


def test_no_byte_hangs_on_the_last_bit_of_a_sine() -> None:
    """What processors differ in is below 1e-11; the nearest value of the default set is 2e-8 from a half."""
    options = SyntheticTones()
    for part, count in (("train", options.train_per_class), ("test", options.test_per_class)):
        levels = 127 * tones(part, count, options.length, options.noise)
        assert np.abs(levels % 1 - 0.5).min() > 1e-9


def test_the_set_is_the_one_that_results_were_measured_on() -> None:
    assert SyntheticTones().fingerprint() == "ac0263f18004c80b69c80cea14c7fd8ae219fd18a6a3b051b0610b6e65469fd3"


@pytest.mark.parametrize(
    "options", [{"train_per_class": 3}, {"test_per_class": 2}, {"length": 64}, {"noise": 0.1}], ids=str
)
def test_the_fingerprint_is_that_of_the_waveforms(options: dict[str, Any]) -> None:
    few = {"train_per_class": 2, "test_per_class": 1, "length": 100}
    first, again, other = (SyntheticTones(**{**few, **given}) for given in ({}, {"limit": 15}, options))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_waveform_is_an_image_of_one_row() -> None:
    source = DATASETS.parse({"name": "synthetic-tones", "train_per_class": 3, "test_per_class": 2}).read()
    assert source.train.shape == source.test.shape == (1, 1, 1024)
    assert source.train.images.dtype == torch.uint8  # type: ignore[union-attr]
    assert source.train.labels.tolist() == [kind for kind in range(10) for _ in range(3)]
    assert source.test.labels.bincount().tolist() == [2] * 10
    assert source.classes == tuple(KINDS)


def test_training_and_test_waveforms_are_drawn_apart() -> None:
    train, test = (set(map(bytes, pcm(tones(part, 20, LENGTH, 0.05)))) for part in ("train", "test"))
    assert len(train | test) == 400


def test_a_linear_classifier_of_samples_is_lost() -> None:
    """Chance is 10 %."""
    train, test = (tones(part, count, LENGTH, 0.05) for part, count in (("train", 100), ("test", 50)))
    linear = LogisticRegression(max_iter=50).fit(train, np.repeat(np.arange(10), 100))
    assert linear.score(test, np.repeat(np.arange(10), 50)) < 0.2


def test_too_short_a_waveform_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 64, got 10") as caught:
        DATASETS.parse({"name": "synthetic-tones", "length": 10})
    assert caught.value.path == ("length",)
