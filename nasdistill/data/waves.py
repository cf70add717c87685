"""Recordings in WAV files as waveforms of one rate, one channel and one length."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nasdistill.data.decoding import Broken

SUFFIXES = (".wav", ".wave")
FULL_SCALE = 32768
"""Of 16-bit linear PCM, in which waveforms are kept."""

Wave = np.ndarray[Any, np.dtype[np.float64]]
Place = Literal["start", "middle"]


@dataclass(frozen=True)
class Recording:
    """A waveform.

    Attributes:
        samples: int16, [L], of one channel.
        rate: samples a second.
        peak: the largest absolute value, 1 at full scale; what is beyond is clipped.
    """

    samples: np.ndarray[Any, np.dtype[np.int16]]
    rate: int
    peak: float


def is_wav(path: Path) -> bool:
    """Whether a file is a WAV file by its suffix, or else by how it begins."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:] == b"WAVE"


def read_wav(path: Path, rate: int | None, length: int | None, place: Place) -> Recording:
    """The waveform in a file: its channels' mean, resampled where that is asked for, then cropped or padded.

    Args:
        rate: samples a second that are wanted; None leaves the file's.
        length: samples that are wanted; None leaves all.
        place: which samples of a longer one are kept, and where a shorter one stands amid silence.

    Raises:
        Broken: the file is no WAV file of PCM or floats, is cut, or holds no sound.
    """
    own_rate, waves = _read(path)
    wave = waves.mean(axis=1)
    peak = float(np.abs(wave).max())
    if rate is not None and rate != own_rate:
        from scipy.signal import resample_poly

        common = math.gcd(rate, own_rate)
        wave = resample_poly(wave, rate // common, own_rate // common)
    if length is not None:
        wave = fitted(wave, length, place)
    levels = np.clip(np.rint(FULL_SCALE * wave), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return Recording(levels, rate or own_rate, peak)


def fitted(wave: Wave, length: int, place: Place) -> Wave:
    """`length` samples of a waveform, with silence where it has fewer.

    An odd sample more, or less, is at the end.
    """
    surplus = len(wave) - length
    before = abs(surplus) // 2 if place == "middle" else 0
    if surplus >= 0:
        return wave[before : before + length]
    return np.pad(wave, (before, -surplus - before))


def _read(path: Path) -> tuple[int, Wave]:
    """Samples a second, and samples with full scale 1, [L, channels]."""
    from scipy.io import wavfile

    with warnings.catch_warnings(record=True) as caught:  # of all threads at once, so that files are read one by one
        warnings.simplefilter("always")
        try:
            rate, values = wavfile.read(path)
        except Exception as error:  # readers of damaged files fail in many ways
            raise Broken(f"{type(error).__name__}: {error}") from None
    for warning in caught:
        if "EOF" in str(warning.message):  # of chunks that are no sound there may be any
            raise Broken("it is cut, its header announces more samples")
    if values.size == 0 or rate <= 0:
        raise Broken("it holds no samples")
    waves = values.astype(np.float64).reshape(len(values), -1)
    if values.dtype == np.uint8:
        waves = (waves - 128) / 128
    elif values.dtype.kind == "i":  # 24 bits come as the upper ones of 32
        waves = waves / 2.0 ** (8 * values.dtype.itemsize - 1)
    if not np.isfinite(waves).all():
        raise Broken("it holds values that are no numbers")
    return rate, waves
