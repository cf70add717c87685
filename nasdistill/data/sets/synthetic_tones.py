"""Synthetic tones: ten kinds of sound that a formula makes, for networks that read waveforms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from pydantic import Field

from nasdistill.data.base import DATASETS, DataSet, ImageSet, RawData

RATE = 8000
"""Samples a second, as in telephony."""
ZERO = 128
"""The byte of silence."""
PITCHES = 100.0, 800.0
LOUDNESS = 0.2, 0.8
PARTS = ("train", "test")

Wave = NDArray[np.float64]


def uniform(draws: RandomState, count: int, low: float, high: float) -> Wave:
    """[count, 1], evenly spread."""
    return low + (high - low) * draws.random_sample((count, 1))


def log_uniform(draws: RandomState, count: int, low: float, high: float) -> Wave:
    """[count, 1], evenly spread in octaves (or decibels)."""
    return np.asarray(low * np.exp(np.log(high / low) * draws.random_sample((count, 1))))


def angle(frequency: Wave, length: int, phase: Wave) -> Wave:
    """2*pi*(f*t + phase) at the samples t = 0, 1/RATE, ..., of a frequency [N, 1] in Hz, [N, length]."""
    return 2 * np.pi * (frequency * np.arange(length) / RATE + phase)


def periodic(pitch: Wave, phase: Wave, length: int, weight: Callable[[int], float]) -> Wave:
    """The Fourier series sum_k weight(k) * sin(k*angle), up to half the rate, so that nothing is aliased."""
    fundamental = angle(pitch, length, phase)
    result: Wave = np.zeros_like(fundamental)
    for k in range(1, int(np.ceil(RATE / 2 / pitch.min()))):
        if weight(k):
            heard = k * pitch[:, 0] < RATE / 2
            result[heard] += weight(k) * np.sin(k * fundamental[heard])
    return result


def square_weight(k: int) -> float:
    return k % 2 * 4 / (np.pi * k)


def sawtooth_weight(k: int) -> float:
    return 2 / (np.pi * k)


def triangle_weight(k: int) -> float:
    return k % 2 * (2 - k % 4) * 8 / (np.pi * k) ** 2


def sweep(start: Wave, end: Wave, phase: Wave, length: int) -> Wave:
    """A sine whose frequency goes evenly from `start` to `end`, both [N, 1] in Hz, over `length` samples."""
    done = np.arange(length) / length
    return np.asarray(np.sin(angle(start, length, phase) + angle((end - start) / 2, length, 0 * phase) * done))


def plucked(noise: Wave, periods: NDArray[np.int64]) -> Wave:
    """Strings that were excited by `noise` [N, L]: y[t] = (y[t - P] + y[t - P - 1]) / 2 after the first P + 1 samples.

    Source: Karplus, Strong 1983, Digital Synthesis of Plucked-String and Drum Timbres, equation 1.
    """
    result: Wave = noise.copy()
    rows = np.arange(len(result))
    for t in range(result.shape[1]):
        played = rows[periods < t]
        before = t - periods[played]
        result[played, t] = (result[played, before] + result[played, before - 1]) / 2
    return result


def _of_shape(weight: Callable[[int], float]) -> Callable[[RandomState, int, int], Wave]:
    def draw(draws: RandomState, count: int, length: int) -> Wave:
        return periodic(log_uniform(draws, count, *PITCHES), uniform(draws, count, 0, 1), length, weight)

    return draw


def _rising(draws: RandomState, count: int, length: int) -> Wave:
    low = log_uniform(draws, count, *PITCHES)
    return sweep(low, low * uniform(draws, count, 1.5, 3), uniform(draws, count, 0, 1), length)


def _falling(draws: RandomState, count: int, length: int) -> Wave:
    return _rising(draws, count, length)[:, ::-1]


def _modulator(draws: RandomState, count: int, length: int) -> Wave:
    return np.asarray(np.sin(angle(uniform(draws, count, 20, 60), length, uniform(draws, count, 0, 1))))


def _amplitude_modulated(draws: RandomState, count: int, length: int) -> Wave:
    depth = uniform(draws, count, 0.5, 1)
    envelope = (1 + depth * _modulator(draws, count, length)) / (1 + depth)
    return np.asarray(envelope * _of_shape(lambda k: k == 1)(draws, count, length))


def _frequency_modulated(draws: RandomState, count: int, length: int) -> Wave:
    """A sine whose frequency swings by 10 to 30 % of its pitch."""
    pitch = log_uniform(draws, count, *PITCHES)
    swing = 1 + uniform(draws, count, 0.1, 0.3) * _modulator(draws, count, length)
    turns = np.cumsum(pitch * swing, axis=1) / RATE + uniform(draws, count, 0, 1)
    return np.asarray(np.sin(2 * np.pi * turns))


def _white(draws: RandomState, count: int, length: int) -> Wave:
    return 2 * draws.random_sample((count, length)) - 1


def _burst(draws: RandomState, count: int, length: int) -> Wave:
    """White noise under a Hann window of an eighth to a half of the length, anywhere inside it."""
    width = uniform(draws, count, 1 / 8, 1 / 2)
    start = uniform(draws, count, 0, 1) * (1 - width)
    place = np.clip((np.arange(length) / length - start) / width, 0, 1)
    return np.asarray(np.sin(np.pi * place) ** 2 * _white(draws, count, length))


def _string(draws: RandomState, count: int, length: int) -> Wave:
    """A string that is plucked within the first quarter."""
    periods = np.rint(RATE / log_uniform(draws, count, *PITCHES)[:, 0]).astype(np.int64)
    sound = plucked(_white(draws, count, length), periods)
    since = np.arange(length) - np.floor(uniform(draws, count, 0, 1 / 4) * length).astype(np.int64)
    return np.where(since < 0, 0, np.take_along_axis(sound, since.clip(0), axis=1))


KINDS: dict[str, Callable[[RandomState, int, int], Wave]] = {
    "sine": _of_shape(lambda k: k == 1),
    "square": _of_shape(square_weight),
    "sawtooth": _of_shape(sawtooth_weight),
    "triangle": _of_shape(triangle_weight),
    "rising": _rising,
    "falling": _falling,
    "tremolo": _amplitude_modulated,
    "vibrato": _frequency_modulated,
    "burst": _burst,
    "plucked": _string,
}


def tones(part: str, count: int, length: int, noise: float) -> Wave:
    """`count` waveforms of each kind, one kind after the other, [10 * count, length] with full scale 1.

    The streams of `RandomState` are frozen for good (NumPy's NEP 19), those of newer generators are not.

    Args:
        part: `train` or `test`; each has random numbers of its own.
        noise: standard deviation of the white noise on every waveform, as a fraction of full scale.
    """
    sounds = []
    for number, draw in enumerate(KINDS.values()):
        draws = RandomState([PARTS.index(part), number])
        clean = log_uniform(draws, count, *LOUDNESS) * draw(draws, count, length)
        sounds.append(clean + noise * np.sqrt(3) * _white(draws, count, length))
    return np.concatenate(sounds)


def pcm(waves: Wave) -> NDArray[np.uint8]:
    """8-bit linear PCM: 128 is silence, full scale is 127 away from it, what is louder is clipped."""
    return np.clip(np.rint(ZERO + 127 * waves), 0, 255).astype(np.uint8)


@DATASETS.register("synthetic-tones")
class SyntheticTones(DataSet):
    """Ten kinds of tones, each 128 ms at 8 kHz in 8 bits: no recordings, a formula with random numbers makes them.

    An image of 1x1x1024 is a waveform of 1,024 samples: square and other waves, sweeps, tremolo and vibrato, bursts of
    noise, plucked strings, all of random pitch, phase and loudness and with noise. They are the same on every machine.
    """

    source: ClassVar[str] = (
        "made for this project; the strings are those of Karplus and Strong 1983, Digital Synthesis of Plucked-String "
        "and Drum Timbres"
    )

    train_per_class: int = Field(400, gt=1, le=100_000, description="waveforms of each class in the training set")
    test_per_class: int = Field(100, gt=0, le=100_000, description="waveforms of each class in the test set")
    length: int = Field(1024, ge=64, le=1 << 20, description="samples of a waveform, 8,000 a second")
    noise: float = Field(
        0.05, ge=0, le=1, description="standard deviation of white noise on each waveform, as a fraction of full scale"
    )

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for images in self._images():
            digest.update(images.tobytes())
        return digest.hexdigest()

    def read(self) -> RawData:
        train, test = (
            ImageSet(torch.from_numpy(images), torch.arange(len(KINDS)).repeat_interleave(len(images) // len(KINDS)))
            for images in self._images()
        )
        return RawData(train, test, classes=tuple(KINDS))

    def _images(self) -> list[NDArray[np.uint8]]:
        counts = self.train_per_class, self.test_per_class
        return [
            pcm(tones(part, count, self.length, self.noise)).reshape(-1, 1, 1, self.length)
            for part, count in zip(PARTS, counts, strict=True)
        ]
