"""Any folder of class folders."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field

from nasdistill.data.base import DATASETS, ImageFiles, Images, ImageSet, RawData, Shape, Size
from nasdistill.data.class_folder_set import ClassFolderSet
from nasdistill.data.decoding import Broken, Header, decode_files, is_image, read_headers
from nasdistill.errors import UserError

log = logging.getLogger(__name__)

MEBIBYTE = 1 << 20


@DATASETS.register("image-folder")
class ImageFolder(ClassFolderSet):
    """Images in one folder per class: below `train/` and `test/` (and `val/` if it is there), or split by `test`.

    Links are followed. What is read is decided by a file's content where its suffix does not tell.
    """

    source: ClassVar[str] = "the layout of torchvision's ImageFolder"
    access: ClassVar[frozenset[str]] = frozenset({"root", "workers", "memory_mb"})
    wanted: ClassVar[str] = "image (such as .png or .jpg)"

    size: Size | None = Field(
        None, description="resize to height x width, e.g. 32x32; needed where the images differ in size"
    )
    channels: Literal[1, 3, "auto"] = Field("auto", description="1 grey, 3 colour, auto: grey if all images are")
    workers: int = Field(2, ge=0, le=1024, description="processes that decode; 0 decodes in the main process")
    memory_mb: int = Field(
        4096, gt=0, description="images that need more MiB of memory are decoded anew in each epoch instead of kept"
    )

    @staticmethod
    def is_wanted(path: Path) -> bool:
        return is_image(path)

    def read(self) -> RawData:
        found = self.listed_files()
        files = [file for part in found.files.values() for file in part]
        paths = [path for path, _ in files]
        headers = read_headers(paths, self.workers)
        unreadable = {index: str(header) for index, header in enumerate(headers) if isinstance(header, Broken)}
        self._stop_at(unreadable, paths)
        shape = self._shape(paths, headers)
        fits = len(paths) * shape[0] * shape[1] * shape[2] <= self.memory_mb * MEBIBYTE
        decoded = decode_files(paths, shape, self.workers, keep=fits)
        broken = {**unreadable, **decoded.broken}
        self._stop_at(broken, paths)
        if broken:
            first_broken = paths[min(broken)].relative_to(self.root).as_posix()
            log.warning(
                "left out %d broken of %d images in %s, the first is %s",
                *(len(broken), len(paths), self.root, first_broken),
            )
        labels = torch.tensor([label for _, label in files])
        images: Images
        if decoded.pixels is not None:
            images = ImageSet(decoded.pixels, labels)
        else:
            images = ImageFiles(tuple(paths), labels, shape, decoded.sums, decoded.squares, self.workers)
        parts: dict[str, Images] = {}
        first = 0
        for name, part in found.files.items():
            good = torch.tensor([index for index in range(first, first + len(part)) if index not in broken])
            if not len(good):
                raise UserError(f"all {len(part)} images of the {name} set in {self.root} are broken")
            parts[name] = images.subset(good)
            first += len(part)
        return self.assembled(parts, found.classes)

    def _stop_at(self, broken: dict[int, str], paths: list[Path]) -> None:
        if broken and self.broken == "stop":
            index = min(broken)
            raise UserError(
                f"{paths[index]} is not a readable image ({broken[index]}); repair it, or leave out broken images with "
                "data.broken=skip"
            )

    def _shape(self, paths: list[Path], headers: list[Header | Broken]) -> Shape:
        good = [(path, header) for path, header in zip(paths, headers, strict=True) if isinstance(header, Header)]
        if not good:
            raise UserError(f"all {len(paths)} images in {self.root} are broken")
        channels = self.channels
        if channels == "auto":
            channels = 1 if all(header.grey for _, header in good) else 3
        if self.size is not None:
            return channels, *self.size
        first_path, first = good[0]
        for path, header in good:
            if (header.height, header.width) != (first.height, first.width):
                raise UserError(
                    f"{first_path} has {first.height}x{first.width} pixels but {path} {header.height}x{header.width}; "
                    f"set data.size, e.g. data.size={first.height}x{first.width}"
                )
        return channels, first.height, first.width
