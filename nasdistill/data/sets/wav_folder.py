"""Recordings of one's own, in folders of WAV files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from nasdistill.data.base import DATASETS, DataSet, ImageSet, RawData
from nasdistill.data.decoding import Broken
from nasdistill.data.files import fingerprint_of
from nasdistill.data.folders import TEST, TRAIN, VALIDATION, ClassFolders, find_class_folders
from nasdistill.data.preparation import split_off
from nasdistill.data.waves import Place, Recording, is_wav, read_wav
from nasdistill.errors import SpecError, UserError

log = logging.getLogger(__name__)


@DATASETS.register("wav-folder")
class WavFolder(DataSet):
    """Recordings in one folder per class, WAV files of any bits: below `train/` and `test/`, or split by `test`.

    A recording of L samples is an image of 1x1xL: the mean of its channels, in 16 bits. Folders are read as those of
    images are.
    """

    source: ClassVar[str] = "Kabal 2022, Audio File Format Specifications, for WAV; read by scipy.io.wavfile"
    access: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Path = Field(
        description="folder that holds the class folders, or train/ and test/ with class folders in each"
    )
    layout: Literal["auto", "classes"] = Field(
        "auto",
        description="auto: folders with the usual names of parts that hold class folders are parts; classes: all "
        "folders of the root are classes",
    )
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
    test: float = Field(
        0.2, gt=0, lt=1, description="fraction of each class that is the test set, where there is no test/"
    )
    split_seed: int = Field(
        0, description="seed of the choice of the test set; apart from the run's, so that all runs share one test set"
    )
    broken: Literal["stop", "skip"] = Field(
        "stop",
        description="what a file that cannot be read or a link to nothing does: stop with its name, or be left out and "
        "counted",
    )

    def fingerprint(self) -> str:
        return fingerprint_of(self.root, [path for part in self._found().files.values() for path, _ in part])

    def read(self) -> RawData:
        found = self._found()
        if len(found.folders) > 1:
            log.info("folders of recordings: %s", found.taken())
        for problem in found.left_out():
            log.warning("%s", problem)
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
        if TEST in sets:
            return RawData(sets[TRAIN], sets[TEST], found.classes, sets.get(VALIDATION))
        train, test = split_off(sets[TRAIN], self.test, self.split_seed, found.classes)
        return RawData(train, test, found.classes)

    def _stop_at(self, path: Path, problem: Broken) -> None:
        if self.broken == "stop":
            raise UserError(
                f"{path} is not a readable recording ({problem}); repair it, or leave out broken ones with "
                "data.broken=skip"
            )

    def _found(self) -> ClassFolders:
        """What the fingerprint is of, and what is read."""
        if not self.root.is_dir():
            problem = f"there is no folder {self.root}; set data.root to the folder that holds the class folders"
            raise SpecError(problem, ("root",))
        return find_class_folders(
            self.root,
            is_wav,
            has_parts=self.layout == "auto",
            skip_broken=self.broken == "skip",
            wanted="recording (such as .wav)",
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
