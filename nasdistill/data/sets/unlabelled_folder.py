"""Any folder of images whose classes nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.artifacts import NETWORK_FILES
from nasdistill.data.base import DATASETS, RawData
from nasdistill.data.decoding import is_image
from nasdistill.data.files import fingerprint_of
from nasdistill.data.folders import TRAIN, files_below
from nasdistill.data.image_files import DecodesImages
from nasdistill.data.split_test_set import SplitsTest
from nasdistill.errors import SpecError, UserError
from nasdistill.storage import read_json, sha256_of_json
from nasdistill.training.batches import NO_LABEL


@DATASETS.register("unlabelled-folder")
class UnlabelledFolder(DecodesImages, SplitsTest):
    """The images in a folder and all folders below, without classes: a teacher says what they are.

    `distill` learns on them from logits or features, and scores how often the student answers as its teacher does.
    """

    source: ClassVar[str] = "Bucila, Caruana, Niculescu-Mizil, Model Compression (2006): unlabelled data for a student"
    access: ClassVar[frozenset[str]] = DecodesImages.access | {"classes_of"}
    has_labels: ClassVar[bool] = False

    root: Path = Field(description="folder that holds the images, at any depth")
    classes_of: Path = Field(
        description="folder of the teacher's artifact, whose classes are those that the images may have"
    )

    def fingerprint(self) -> str:
        return sha256_of_json([fingerprint_of(self.root, self._files()), self._classes()])

    def read(self) -> RawData:
        classes, files = self._classes(), self._files()
        images, broken = self.decoded(files, [NO_LABEL] * len(files))
        good = torch.tensor([index for index in range(len(files)) if index not in broken], dtype=torch.int64)
        if not len(good):
            raise UserError(f"all {len(files)} images in {self.root} are broken")
        return self.assembled({TRAIN: images.subset(good)}, classes)

    def _files(self) -> list[Path]:
        return files_below(self.root, is_image, self.wanted, "root")

    def _classes(self) -> tuple[str, ...]:
        """The classes of the network there."""
        spec = self.classes_of / NETWORK_FILES[0]
        content = read_json(spec) if spec.is_file() else {}
        labels = content.get("labels") if isinstance(content, dict) else None
        if not isinstance(labels, list):
            raise SpecError(f"{self.classes_of} holds no network that knows its classes", ("classes_of",))
        return tuple(map(str, labels))
