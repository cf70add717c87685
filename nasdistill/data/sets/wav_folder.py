"""Recordings of one's own, in folders of WAV files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from nasdistill.data.base import DATASETS, ImageSet, RawData
from nasdistill.data.class_folder_set import ClassFolderSet
from nasdistill.data.decoding import Broken
from nasdistill.data.waves import Place, Recording, is_wav, read_wav
from nasdistill.errors import SpecError, UserError

log = logging.getLogger(__name__)


@DATASETS.register("wav-folder")
class WavFolder(ClassFolderSet):
    """Recordings in one folder per class, WAV files of any bits: below `train/` and `test/`, or split by `test`.

    A recording of L samples is an image of 1x1xL: the mean of its channels, in 16 bits. Folders are read as those of
    images are.
    """

    source: ClassVar[str] = "Kabal 2022, Audio File Format Specifications, for WAV; read by scipy.io.wavfile"
    access: ClassVar[frozenset[str]] = frozenset({"root"})
    wanted: ClassVar[str] = "recording (such as .wav)"

    rate: int | None = Field(
        None, ge=100, le=1_000_000, description="resample to so many samples a second; needed where recordings differ"
    )
    length: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="samples of each, longer ones cropped, shorter ones filled with silence; "
        "needed where recordings differ",
    )
    place: Place = Field(
        "start", description="what is kept of a longer recording, and where a shorter one stands: start or middle"
    )

    @staticmethod
    def is_wanted(path: Path) -> bool:
        return is_wav(path)

    def read(self) -> RawData:
        found = self.listed_files()
        files = [(part, path, label) for part, listed in found.files.items() for path, label in listed]
        samples: dict[str, list[np.ndarray]] = {part: [] for part in found.files}
        labels: dict[str, list[int]] = {part: [] for part in found.files}
        broken: list[Path] = []
        loud: list[tuple[float, Path]] = []
        first: tuple[Path, Recording] | None = None
        for part, path, label in files:
            recording = _outcome(path, self.rate, self.length, self.place)
            if isinstance(recording, Broken):
                self._stop_at(path, recording)
                broken.append(path)
                continue
            first = first or (path, recording)
            _require_alike(*first, path, recording)
            if recording.peak > 1:
                loud.append((recording.peak, path))
            samples[part].append(recording.samples)
            labels[part].append(label)
        if broken:
            log.warning("left out %d broken of %d recordings, the first is %s", len(broken), len(files), broken[0])
        if loud:
            log.warning(
                "%d recordings go beyond full scale and are clipped, most %s, to %.3g", len(loud), *max(loud)[::-1]
            )
        sets: dict[str, ImageSet] = {}
        for part, waves in samples.items():
            if not waves:
                raise UserError(f"all recordings of the {part} set in {self.root} are broken")
            sets[part] = ImageSet(torch.from_numpy(np.stack(waves)[:, None, None]), torch.tensor(labels[part]))
        return self.assembled(sets, found.classes)

    def _stop_at(self, path: Path, problem: Broken) -> None:
        if self.broken == "stop":
            raise UserError(
                f"{path} is not a readable recording ({problem}); repair it, or leave out broken ones with "
                "data.broken=skip"
            )


def _outcome(path: Path, rate: int | None, length: int | None, place: Place) -> Recording | Broken:
    try:
        return read_wav(path, rate, length, place)
    except Broken as error:
        return error


def _require_alike(first_path: Path, first: Recording, path: Path, recording: Recording) -> None:
    if recording.rate != first.rate:
        raise SpecError(
            f"{first_path} has {first.rate} samples a second but {path} {recording.rate}; set data.rate, e.g. "
            f"data.rate={min(first.rate, recording.rate)}",
            ("rate",),
        )
    lengths = len(first.samples), len(recording.samples)
    if lengths[0] != lengths[1]:
        raise SpecError(
            f"{first_path} has {lengths[0]} samples but {path} {lengths[1]}; set data.length, e.g. "
            f"data.length={max(lengths)}",
            ("length",),
        )
