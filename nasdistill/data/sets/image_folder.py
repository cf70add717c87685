"""Any folder of class folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field

from nasdistill.data.base import DATASETS, Images, RawData
from nasdistill.data.class_folder_set import ClassFolderSet
from nasdistill.data.decoding import is_image
from nasdistill.data.files import fingerprint_of
from nasdistill.data.folders import files_below
from nasdistill.data.image_files import DecodesImages
from nasdistill.errors import UserError
from nasdistill.storage import sha256_of_json
from nasdistill.training.batches import NO_LABEL


@DATASETS.register("image-folder")
class ImageFolder(ClassFolderSet, DecodesImages):
    """Images in one folder per class: below `train/` and `test/` (and `val/` if it is there), or split by `test`.

    Links are followed. What is read is decided by a file's content where its suffix does not tell.
    """

    source: ClassVar[str] = "the layout of torchvision's ImageFolder"
    access: ClassVar[frozenset[str]] = DecodesImages.access | {"unlabelled"}

    unlabelled: Path | None = Field(
        None,
        description="a folder of further images whose classes nobody knows, of which stages that learn from a teacher "
        "learn what that says; others leave them alone",
    )

    @staticmethod
    def is_wanted(path: Path) -> bool:
        return is_image(path)

    def fingerprint(self) -> str:
        labelled = super().fingerprint()
        if self.unlabelled is None:
            return labelled
        further = fingerprint_of(self.unlabelled, files_below(self.unlabelled, is_image, self.wanted, "unlabelled"))
        return sha256_of_json([labelled, further])

    def read(self) -> RawData:
        found = self.listed_files()
        files = {name: list(part) for name, part in found.files.items()}
        if self.unlabelled is not None:
            further = files_below(self.unlabelled, is_image, self.wanted, "unlabelled")
            files["unlabelled"] = [(path, NO_LABEL) for path in further]
        every = [file for part in files.values() for file in part]
        images, broken = self.decoded([path for path, _ in every], [label for _, label in every])
        parts: dict[str, Images] = {}
        first = 0
        for name, part in files.items():
            good = torch.tensor([index for index in range(first, first + len(part)) if index not in broken])
            if not len(good):
                raise UserError(f"all {len(part)} images of the {name} set in {self.root} are broken")
            parts[name] = images.subset(good)
            first += len(part)
        unlabelled = parts.pop("unlabelled", None)
        return replace(self.assembled(parts, found.classes), unlabelled=unlabelled, resize=self.resize)
