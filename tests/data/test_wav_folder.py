"""Recordings in WAV files that the standard library or plain bytes make: every kind of sample, and what is refused."""

from __future__ import annotations

import logging
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasdistill.data.base import DATASETS, ImageSet, Normalisation, RawData
from nasdistill.data.loaders import ImageBatches
from nasdistill.data.preparation import load
from nasdistill.data.statistics import computed_normalisation
from nasdistill.data.waves import fitted, read_wav
from nasdistill.errors import SpecError, UserError

SAMPLES = np.array([0, 1000, -1000, 32767, -32768, 5, -7, 256], dtype=np.int16)


def write_pcm(path: Path, samples: Any = SAMPLES, bits: int = 16, rate: int = 8000, channels: int = 1) -> Path:
    """16-bit samples at the upper end of so many bits, by the standard library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(samples, dtype=np.int64)
    if bits == 8:
        data = ((values >> 8) + 128).astype(np.uint8).tobytes()
    else:
        shifted = (values << (bits - 16)).reshape(-1)
        data = b"".join(int(value).to_bytes(bits // 8, "little", signed=True) for value in shifted)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def write_chunks(path: Path, code: int, kind: str, values: Any, extensible: bool = False, extra: bytes = b"") -> Path:
    """A WAV file by hand, of one channel at 8 kHz; `extra` are chunks before the samples."""
    data = np.asarray(values, dtype=kind).tobytes()
    width = np.dtype(kind).itemsize
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else code, 1, 8000, 8000 * width, width, 8 * width)
    if extensible:
        guid = struct.pack("<H", code) + bytes.fromhex("000000001000800000aa00389b71")
        form += struct.pack("<HHI", 22, 8 * width, 4) + guid
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + extra + b"data" + struct.pack("<I", len(data)) + data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def folder(root: Path, **options: Any) -> Any:
    return DATASETS.parse({"name": "wav-folder", "root": root, **options})


def samples_of(path: Path, **options: Any) -> list[int]:
    return read_wav(path, options.get("rate"), options.get("length"), options.get("place", "start")).samples.tolist()


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_linear_pcm_of_any_bits(bits: int, tmp_path: Path) -> None:
    expected = (SAMPLES >> 8 << 8 if bits == 8 else SAMPLES).tolist()
    assert samples_of(write_pcm(tmp_path / "a.wav", bits=bits)) == expected


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
@pytest.mark.parametrize("extensible", [False, True])
def test_floats_and_the_extensible_header(kind: str, extensible: bool, tmp_path: Path) -> None:
    path = write_chunks(tmp_path / "a.wav", 3, kind, SAMPLES / 32768, extensible)
    assert samples_of(path) == SAMPLES.tolist()


def test_other_chunks_are_passed_over(tmp_path: Path) -> None:
    path = write_chunks(tmp_path / "a.wav", 1, "<i2", SAMPLES, extra=b"LIST\x04\x00\x00\x00abcdcart\x02\x00\x00\x00xy")
    assert samples_of(path) == SAMPLES.tolist()


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([SAMPLES // 2, np.zeros_like(SAMPLES)], axis=1)
    expected = np.rint(SAMPLES // 2 / 2).astype(int).tolist()
    assert samples_of(write_pcm(tmp_path / "a.wav", both, channels=2)) == expected


def test_a_tone_keeps_its_pitch_when_it_is_resampled(tmp_path: Path) -> None:
    """500 Hz for half a second at 44.1 kHz; and 6 kHz, which 8 kHz cannot hold, leaves silence and no alias."""
    for pitch, loud in ((500, True), (6000, False)):
        tone = 16000 * np.sin(2 * np.pi * pitch * np.arange(22050) / 44100)
        found = read_wav(write_pcm(tmp_path / "a.wav", tone, rate=44100), 8000, None, "start")
        assert (found.rate, len(found.samples)) == (8000, 4000)
        middle = found.samples[1000:3000].astype(float)
        if loud:
            assert np.abs(np.fft.rfft(middle)).argmax() == 500 * 2000 / 8000
            assert np.abs(middle).max() == pytest.approx(16000, rel=0.01)
        else:
            assert np.abs(middle).max() < 200


@pytest.mark.parametrize(
    ("length", "place", "expected"),
    [
        (3, "start", [1, 2, 3]),
        (3, "middle", [2, 3, 4]),
        (2, "middle", [2, 3]),
        (7, "start", [1, 2, 3, 4, 5, 0, 0]),
        (8, "middle", [0, 1, 2, 3, 4, 5, 0, 0]),
    ],
)
def test_lengths(length: int, place: Any, expected: list[int]) -> None:
    assert fitted(np.arange(1.0, 6.0), length, place).tolist() == expected


def write_folders(root: Path, parts: tuple[str, ...] = ("",), count: int = 5, **options: Any) -> Path:
    for part in parts:
        for number, name in enumerate(("bark", "meow")):
            for each in range(count):
                write_pcm(root / part / name / f"{each}.wav", SAMPLES // 2 + 100 * number + each, **options)
    return root


def test_folders_are_classes_and_parts(tmp_path: Path) -> None:
    source: RawData = folder(write_folders(tmp_path, ("Train", "testing"))).read()
    assert source.classes == ("bark", "meow")
    assert isinstance(source.train, ImageSet)
    assert source.train.images.dtype == torch.int16
    assert source.train.shape == (1, 1, 8)
    assert source.train.images[5].flatten().tolist() == (SAMPLES // 2 + 100).tolist()
    assert source.test.labels.tolist() == [0] * 5 + [1] * 5
    assert folder(tmp_path).fingerprint() == folder(tmp_path).fingerprint()
    before = folder(tmp_path).fingerprint()
    write_pcm(tmp_path / "Train" / "bark" / "0.wav", SAMPLES // 3)
    assert folder(tmp_path).fingerprint() != before


def test_batches_are_normalised_by_the_numbers_of_all_samples(tmp_path: Path) -> None:
    """Of values in [0, 1], where half is silence, as with bytes."""
    data = load(folder(write_folders(tmp_path), validation=0.3), 0)
    values = (data.train.images.double() + 32768) / 65535  # type: ignore[union-attr]
    assert data.normalisation.mean == pytest.approx([float(values.mean())])
    assert data.normalisation.std == pytest.approx([float(values.std(correction=0))])
    (batch,) = ImageBatches(data.train, data.normalisation, 100, seed=0, shuffle=False).epoch(0)
    expected = (values - data.normalisation.mean[0]) / data.normalisation.std[0]
    torch.testing.assert_close(batch.images, expected.float(), rtol=1e-4, atol=1e-4)
    assert computed_normalisation(
        ImageSet(torch.zeros(2, 1, 1, 4, dtype=torch.int16), torch.zeros(2))
    ) == Normalisation(mean=(32768 / 65535,), std=(1.0,))


def test_rates_and_lengths_that_differ_are_named(tmp_path: Path) -> None:
    write_folders(tmp_path)
    write_pcm(tmp_path / "meow" / "9.wav", SAMPLES, rate=16000)
    with pytest.raises(SpecError, match=r"0\.wav has 8000 samples a second but .*9\.wav 16000; set data.rate, e.g"):
        folder(tmp_path).read()
    with pytest.raises(SpecError, match=r"has 8 samples but .*9\.wav 4; set data.length"):
        folder(tmp_path, rate=8000).read()
    assert folder(tmp_path, rate=8000, length=6).read().train.shape == (1, 1, 6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a readable recording"),
        (b"no sound at all", "is not a readable recording"),
        (write_chunks, "cut, its header announces more|is not a readable recording"),
        ("mulaw", "is not a readable recording"),
        ("nan", "values that are no numbers"),
        ("empty", "holds no samples"),
    ],
)
def test_broken_files_stop_with_their_name_or_are_left_out(
    content: Any, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folders(tmp_path) / "bark" / "bad.wav"
    if content is write_chunks:
        path.write_bytes(write_pcm(path, np.arange(1000)).read_bytes()[:500])
    elif content == "mulaw":
        write_chunks(path, 7, "u1", [1, 2, 3])
    elif content == "nan":
        write_chunks(path, 3, "<f4", [0, np.nan])
    elif content == "empty":
        write_pcm(path, [])
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.wav.*({reason})"):
        folder(tmp_path).read()
    source = folder(tmp_path, broken="skip").read()
    assert len(source.train) + len(source.test) == 10
    assert "left out 1 broken of 11 recordings" in caplog.text


def test_what_is_beyond_full_scale_is_clipped_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folders(tmp_path)
    write_chunks(tmp_path / "bark" / "loud.wav", 3, "<f4", np.array([0, 0.5, 2.5, -3, 0, 0, 0, 0]))
    with caplog.at_level(logging.WARNING):
        folder(tmp_path).read()
    assert "1 recordings go beyond full scale and are clipped" in caplog.text
    assert samples_of(tmp_path / "bark" / "loud.wav")[:4] == [0, 16384, 32767, -32768]


def test_other_files_are_named_and_a_class_without_recordings_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folders(tmp_path)
    (tmp_path / "bark" / "a.mp3").write_bytes(b"ID3")
    write_pcm(tmp_path / "bark" / "WITHOUT-SUFFIX")
    source = folder(tmp_path).read()
    assert len(source.train) + len(source.test) == 11
    assert "no recordings that can be decoded here: 1 file in" in caplog.text
    (tmp_path / "quack").mkdir()
    (tmp_path / "quack" / "a.mp3").write_bytes(b"ID3")
    with pytest.raises(UserError, match=r"quack holds no recording \(such as \.wav\); what it holds is a\.mp3"):
        folder(tmp_path).read()
    with pytest.raises(SpecError, match="there is no folder"):
        folder(tmp_path / "gone").fingerprint()
