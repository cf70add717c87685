"""From image files to pixels, by worker processes."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

from nasdistill.data.base import ImageFiles, Shape
from nasdistill.data.statistics import pixel_sums
from nasdistill.errors import UserError

# Formats whose decoders are Pillow's own; others, such as EPS, would start programs of the system.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
FILES_AT_ONCE = 128
EXIF_ORIENTATION = 0x0112

T = TypeVar("T")


class Broken(Exception):
    """A file that cannot be decoded; the message says why."""


@dataclass(frozen=True)
class Header:
    """What an image file says of itself."""

    grey: bool
    height: int
    width: int


@dataclass(frozen=True)
class Decoded:
    """The outcome for a list of N files.

    Attributes:
        pixels: uint8, [N, C, H, W], zero where a file is broken; None if they were not to be kept.
        sums, squares: int64, [N, C], of each image's pixels and of their squares.
        broken: index of each broken file to the reason.
    """

    pixels: torch.Tensor | None
    sums: torch.Tensor
    squares: torch.Tensor
    broken: dict[int, str]


def read_header(path: Path) -> Header:
    """Size and kind of an image, without decoding it.

    Raises:
        Broken: the file is no image.
    """
    with _opened(path) as image:
        # A photograph may be stored lying on its side, with a note which way is up; notes from 5 on swap the sides.
        lying = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
        width, height = reversed(image.size) if lying else image.size
        return Header(image.mode in GREY, height, width)


def decode(path: Path, shape: Shape) -> torch.Tensor:
    """The pixels of a file: uint8, [C, H, W], upright, converted to grey or colour, resized with antialiasing.

    Transparency is dropped, of an animation the first picture is taken, and 16 bit grey is cut to its upper 8.

    Raises:
        Broken: the file is no image, damaged, or larger than Pillow's guard against decompression bombs allows.
    """
    channels, height, width = shape
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        elif upright.mode in ("I", "F"):
            raise Broken(f"its pixels (mode {upright.mode}) have neither 8 nor 16 bits")
        upright = upright.convert("L" if channels == 1 else "RGB")
        if upright.size != (width, height):
            upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.array(upright, dtype=np.uint8).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_headers(paths: Sequence[Path], workers: int) -> list[Header | Broken]:
    """The header of each file, or what is wrong with it."""
    return [header for part in _spread(_headers_of, _parts(paths), workers) for header in part]


def decode_files(paths: Sequence[Path], shape: Shape, workers: int, keep: bool) -> Decoded:
    """Decode all files once.

    Args:
        keep: keep the pixels, [N, C, H, W] in all; else only their sums, and which files are broken.
    """
    pixels = torch.zeros(len(paths), *shape, dtype=torch.uint8) if keep else None
    sums: list[torch.Tensor] = []
    squares: list[torch.Tensor] = []
    broken: dict[int, str] = {}
    done = 0
    for part, broken_in_part in _spread(functools.partial(_pixels_of, shape), _parts(paths), workers):
        if pixels is not None:
            pixels[done : done + len(part)] = part
        part_sums, part_squares = pixel_sums(part)
        sums.append(part_sums)
        squares.append(part_squares)
        broken.update({done + index: reason for index, reason in broken_in_part.items()})
        done += len(part)
    return Decoded(pixels, torch.cat(sums), torch.cat(squares), broken)


def decoded_batches(images: ImageFiles, places: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """For each of `places` (int64, [M]) the images at these indices: uint8, [M, C, H, W].

    Raises:
        UserError: a file that could be decoded before no longer can.
    """
    batches = [[images.paths[index] for index in indices.tolist()] for indices in places]
    decoded = _spread(functools.partial(_pixels_of, images.shape), batches, images.workers)
    for paths, (pixels, broken) in zip(batches, decoded, strict=True):
        for index, reason in broken.items():
            raise UserError(f"{paths[index]} can no longer be read: {reason}")
        yield pixels


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image with Pillow's guard on; whatever goes wrong inside is `Broken`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as image:
                yield image
        except Broken:
            raise
        except UnidentifiedImageError:
            raise Broken(f"none of {', '.join(FORMATS)}") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise Broken("more pixels than Pillow allows, against files that unpack to fill the memory") from None
        except Exception as error:  # decoders of damaged files fail in many ways
            raise Broken(f"{type(error).__name__}: {error}") from None


def _headers_of(paths: Sequence[Path]) -> list[Header | Broken]:
    return [_outcome(read_header, path) for path in paths]


def _pixels_of(shape: Shape, paths: Sequence[Path]) -> tuple[torch.Tensor, dict[int, str]]:
    pixels = torch.zeros(len(paths), *shape, dtype=torch.uint8)
    broken = {}
    for index, path in enumerate(paths):
        image = _outcome(functools.partial(decode, shape=shape), path)
        if isinstance(image, Broken):
            broken[index] = str(image)
        else:
            pixels[index] = image
    return pixels, broken


def _outcome(function: Callable[[Path], T], path: Path) -> T | Broken:
    try:
        return function(path)
    except Broken as error:
        return error


def _parts(paths: Sequence[Path]) -> list[Sequence[Path]]:
    return [paths[first : first + FILES_AT_ONCE] for first in range(0, len(paths), FILES_AT_ONCE)]


class _Calls(Dataset[Any]):
    """One call of a function for each argument, as torch's workers want them."""

    def __init__(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> None:
        self.function = function
        self.arguments = arguments

    def __len__(self) -> int:
        return len(self.arguments)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.arguments[index])


def _spread(function: Callable[[Any], T], arguments: Sequence[Any], workers: int) -> Iterator[T]:
    """`map` by worker processes, in order; one call alone is not worth a process."""
    loader = DataLoader(
        _Calls(function, arguments),
        batch_size=None,
        num_workers=min(workers, len(arguments)) if len(arguments) > 1 else 0,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # else each loader draws from torch's global generator, and changes the training
    )
    return iter(loader)


def _as_it_is(result: T) -> T:
    return result
