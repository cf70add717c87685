"""Data sets of files in a folder for each class."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from nasdistill.data.base import DataSet
from nasdistill.data.files import fingerprint_of
from nasdistill.data.folders import ClassFolders, find_class_folders
from nasdistill.data.split_test_set import SplitsTest
from nasdistill.errors import SpecError

log = logging.getLogger(__name__)


class SkipsBroken(DataSet):
    """Base of data sets of single files."""

    broken: Literal["stop", "skip"] = Field(
        "stop",
        description="what a file that cannot be decoded or a link to nothing does: stop with its name, or be left out "
        "and counted",
    )


class ClassFolderSet(SkipsBroken, SplitsTest):
    """Base of such data sets; a subclass says which files it reads, and reads them."""

    wanted: ClassVar[str]
    """What a class holds, in words, e.g. `image (such as .png or .jpg)`."""

    root: Path = Field(
        description="folder that holds the class folders, or train/ and test/ with class folders in each"
    )
    layout: Literal["auto", "classes"] = Field(
        "auto",
        description="auto: folders with the usual names of parts (train, Training, seg_train, valid, dev, test, ...) "
        "that hold class folders are parts; classes: all folders of the root are classes",
    )

    @staticmethod
    def is_wanted(path: Path) -> bool:
        """Whether a file in a class folder is one of those that are read."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        return fingerprint_of(self.root, [path for part in self._found().files.values() for path, _ in part])

    def listed_files(self) -> ClassFolders:
        """What is there to read; logs which folders were taken for parts, and warns of what no class holds."""
        found = self._found()
        if len(found.folders) > 1:
            log.info("%s: %s", self.registered_name, found.taken())
        for problem in found.left_out():
            log.warning("%s", problem)
        return found

    def _found(self) -> ClassFolders:
        """What the fingerprint is of, and what is read."""
        if not self.root.is_dir():
            problem = f"there is no folder {self.root}; set data.root to the folder that holds the class folders"
            raise SpecError(problem, ("root",))
        return find_class_folders(
            self.root,
            self.is_wanted,
            self.wanted,
            has_parts=self.layout == "auto",
            skip_broken=self.broken == "skip",
        )
