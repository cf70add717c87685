"""Data sets of picture files: what they are decoded to, and whether they stay in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.data.base import ImageFiles, Images, ImageSet, Resize, Shape, Size
from nasdistill.data.class_folder_set import SkipsBroken
from nasdistill.data.decoding import Broken, Header, decode_files, read_headers
from nasdistill.errors import UserError

log = logging.getLogger(__name__)

MEBIBYTE = 1 << 20


class DecodesImages(SkipsBroken):
    """Base of such data sets."""

    access: ClassVar[frozenset[str]] = frozenset({"root", "workers", "memory_mb"})
    wanted: ClassVar[str] = "image (such as .png or .jpg)"

    root: Path
    size: Size | None = Field(
        None, description="resize to height x width, e.g. 32x32; needed where the images differ in size"
    )
    resize: Resize = Field(
        "squash",
        description="what to do with an image of another side ratio than `size`: squash it, crop it to its middle, or "
        "pad it with black bars",
    )
    channels: Literal[1, 3, "auto"] = Field("auto", description="1 grey, 3 colour, auto: grey if all images are")
    workers: int = Field(2, ge=0, le=1024, description="processes that decode; 0 decodes in the main process")
    memory_mb: int = Field(
        4096, gt=0, description="images that need more MiB of memory are decoded anew in each epoch instead of kept"
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.size is None:
            for name in self.differs("resize"):
                yield name, "without `size` the images keep theirs"

    def decoded(self, paths: Sequence[Path], labels: Sequence[int]) -> tuple[Images, set[int]]:
        """The images in these files, and the places of those that are broken, which nobody may use.

        Raises:
            UserError: one is broken and that is to stop, or all are; or they differ in size and none was given.
        """
        headers = read_headers(paths, self.workers)
        unreadable = {index: str(header) for index, header in enumerate(headers) if isinstance(header, Broken)}
        self._stop_at(unreadable, paths)
        shape = self._shape(paths, headers)
        fits = len(paths) * shape[0] * shape[1] * shape[2] <= self.memory_mb * MEBIBYTE
        found = decode_files(paths, shape, self.resize, self.workers, keep=fits)
        broken = {**unreadable, **found.broken}
        self._stop_at(broken, paths)
        if broken:
            first = paths[min(broken)]
            name = (first.relative_to(self.root) if first.is_relative_to(self.root) else first).as_posix()
            log.warning(
                "left out %d broken of %d images in %s, the first is %s", len(broken), len(paths), self.root, name
            )
        classes = torch.tensor(labels)
        if found.pixels is not None:
            return ImageSet(found.pixels, classes), set(broken)
        of_pixels = found.sums, found.squares
        return ImageFiles(tuple(paths), classes, shape, *of_pixels, self.workers, self.resize), set(broken)

    def _stop_at(self, broken: dict[int, str], paths: Sequence[Path]) -> None:
        if broken and self.broken == "stop":
            index = min(broken)
            raise UserError(
                f"{paths[index]} is not a readable image ({broken[index]}); repair it, or leave out broken images with "
                "data.broken=skip"
            )

    def _shape(self, paths: Sequence[Path], headers: Sequence[Header | Broken]) -> Shape:
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
