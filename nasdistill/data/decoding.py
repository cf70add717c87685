"""From image files to pixels, by worker processes. Nothing needs torch before there are tensors."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from nasdistill.data.base import ImageFiles, Resize, Shape
from nasdistill.errors import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Formats whose decoders are Pillow's own; others, such as EPS, would start programs of the system.
FORMATS = (
    *("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM", "TIFF", "AVIF", "JPEG2000", "QOI", "PSD", "DDS"),
    *("ICO", "ICNS", "PCX", "SGI", "SUN", "XBM", "XPM", "MSP", "DIB", "IM", "TGA"),
)
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
FILES_AT_ONCE = 128
ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 0x0112, 0x0102, 0x0106, 0x0153
"""Tags of TIFF (6.0, section 8 and 19), the first of Exif too."""
WHITE_IS_ZERO, SIGNED = 0, 2
"""What the last two may say."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets an image of each orientation upright (Exif 2.3, section 4.6.4); those from 5 on lie on their sides."""

RESIZES: Mapping[Resize, Callable[[Image.Image, tuple[int, int], Image.Resampling], Image.Image]] = {
    "squash": Image.Image.resize,
    "crop": ImageOps.fit,
    "pad": ImageOps.pad,
}

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


def is_image(path: Path) -> bool:
    """Whether a file is to be read as an image: by its suffix, and where that says nothing by its first bytes.

    A file that cannot be opened and a link to nothing count as images, so that `read_header` says what is wrong.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
    except OSError:
        return True
    if path.suffix.lower() in _suffixes() or not os.access(path, os.R_OK):
        return True
    formats = [name for name in _formats() if Image.OPEN[name][1] is not None]  # those with a magic number
    with _guarded():
        try:
            Image.open(path, formats=formats).close()
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return True
        except Exception:  # what begins like an image by chance fails in many ways
            return False
    return True


def read_header(path: Path) -> Header:
    """Size and kind of an image, decoded only where its colours are in a palette.

    Raises:
        Broken: the file is no image.
    """
    with _opened(path) as image:
        # A photograph may be stored lying on its side, with a note which way is up.
        width, height = reversed(image.size) if _orientation(image) >= 5 else image.size
        return Header(_is_grey(image), height, width)


def read_pixels(
    path: Path, shape: Shape, resize: Resize = "squash", first_size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """The pixels of a file: [H, W, C], upright, converted to grey or colour, resized with antialiasing.

    Transparency is dropped, of an animation the first picture is taken, and 16 bit grey is cut to its upper 8.

    Args:
        first_size: height and width that it is brought to before, by `resize`; then those of `shape` by squashing it.

    Raises:
        Broken: the file is no image, damaged, or larger than Pillow's guard against decompression bombs allows.
    """
    channels, height, width = shape
    with _opened(path) as image:
        upright = _of_eight_bits(image)
        if (orientation := _orientation(image)) in UPRIGHT:
            upright = upright.transpose(UPRIGHT[orientation])
        upright = upright.convert("L" if channels == 1 else "RGB")
        if first_size is not None:
            upright = RESIZES[resize](upright, (first_size[1], first_size[0]), Image.Resampling.BILINEAR)
            resize = "squash"
        if upright.size != (width, height):
            upright = RESIZES[resize](upright, (width, height), Image.Resampling.BILINEAR)
        return np.array(upright, dtype=np.uint8).reshape(height, width, channels)


def decode(
    path: Path, shape: Shape, resize: Resize = "squash", first_size: tuple[int, int] | None = None
) -> torch.Tensor:
    """What `read_pixels` gives as a tensor: uint8, [C, H, W].

    Raises:
        Broken: as there.
    """
    import torch

    return torch.from_numpy(read_pixels(path, shape, resize, first_size)).permute(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    """Which way is up, 1 to 8 as in Exif, 1 where nothing says so; what else Exif holds may be damaged."""
    if image.format == "TIFF":  # Pillow gives it upright
        return 1
    try:
        value = image.getexif().get(ORIENTATION)
        number = value[0] if isinstance(value, bytes) and len(value) == 1 else value
        return int(number) if number in (1, *UPRIGHT) else 1
    except Exception:  # Exif is read by many programs and written by more
        return 1


def _is_grey(image: Image.Image) -> bool:
    if image.mode not in ("P", "PA"):
        return image.mode in GREY
    pixels = np.asarray(image.convert("RGB"))
    return bool((pixels == pixels[..., :1]).all())


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """The image itself, or the upper 8 bits of one that is grey of more; signed values are counted from the lowest.

    Raises:
        Broken: it has 32 bits.
    """
    image.load()
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    if image.mode == "F" or bits > 16:
        raise Broken("its pixels have neither 8 nor 16 bits, and the file does not say which range they use")
    signed = tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    if image.mode == "L" and signed:  # which Pillow reads as if they were not
        return Image.fromarray(np.asarray(image) ^ 0x80)
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image) + (1 << bits - 1 if signed else 0)
    grey = (values >> bits - 8).astype(np.uint8)  # a PGM of 9 to 15 bits has 16 by now
    return Image.fromarray(~grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey)


def read_headers(paths: Sequence[Path], workers: int) -> list[Header | Broken]:
    """The header of each file, or what is wrong with it."""
    return [header for part in _spread(_headers_of, _parts(paths), workers) for header in part]


def decode_files(paths: Sequence[Path], shape: Shape, resize: Resize, workers: int, keep: bool) -> Decoded:
    """Decode all files once.

    Args:
        keep: keep the pixels, [N, C, H, W] in all; else only their sums, and which files are broken.
    """
    import torch

    from nasdistill.data.statistics import pixel_sums

    pixels = torch.zeros(len(paths), *shape, dtype=torch.uint8) if keep else None
    sums: list[torch.Tensor] = []
    squares: list[torch.Tensor] = []
    broken: dict[int, str] = {}
    done = 0
    for part, broken_in_part in _spread(functools.partial(_pixels_of, shape, resize), _parts(paths), workers):
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
    pixels_of = functools.partial(_pixels_of, images.shape, images.resize, first_size=images.first_size)
    decoded = _spread(pixels_of, batches, images.workers)
    for paths, (pixels, broken) in zip(batches, decoded, strict=True):
        for index, reason in broken.items():
            raise UserError(f"{paths[index]} can no longer be read: {reason}")
        yield pixels


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow can decode."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def _suffixes() -> frozenset[str]:
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in (*_formats(), "MPO"))


@contextmanager
def _guarded() -> Iterator[None]:
    """With Pillow's guard against decompression bombs as an error, and its other warnings silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image with Pillow's guard on; whatever goes wrong inside is `Broken`."""
    with _guarded():
        try:
            # By its path Pillow would map a TIFF into memory, with height and width swapped where it lies on its side.
            with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
                if image.format == "TIFF":  # as it loads, Pillow follows whatever else Exif points to
                    exif = image.getexif()
                    for tag in set(exif) - {ORIENTATION}:
                        del exif[tag]
                yield image
        except Broken:
            raise
        except UnidentifiedImageError:
            raise Broken(f"none of {', '.join(_formats())} as Pillow reads them") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise Broken("more pixels than Pillow allows, against files that unpack to fill the memory") from None
        except FileNotFoundError as error:
            raise Broken(
                f"a link to {os.readlink(path)}, where nothing is" if path.is_symlink() else str(error)
            ) from None
        except Exception as error:  # decoders of damaged files fail in many ways
            raise Broken(f"{type(error).__name__}: {error}") from None


def _headers_of(paths: Sequence[Path]) -> list[Header | Broken]:
    return [_outcome(read_header, path) for path in paths]


def _pixels_of(
    shape: Shape, resize: Resize, paths: Sequence[Path], first_size: tuple[int, int] | None = None
) -> tuple[torch.Tensor, dict[int, str]]:
    import torch

    pixels = torch.zeros(len(paths), *shape, dtype=torch.uint8)
    broken = {}
    for index, path in enumerate(paths):
        image = _outcome(functools.partial(decode, shape=shape, resize=resize, first_size=first_size), path)
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


class _Calls:
    """One call of a function for each argument, with what torch's workers ask of a data set."""

    def __init__(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> None:
        self.function = function
        self.arguments = arguments

    def __len__(self) -> int:
        return len(self.arguments)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.arguments[index])


def _spread(function: Callable[[Any], T], arguments: Sequence[Any], workers: int) -> Iterator[T]:
    """`map` by worker processes, in order; one call alone is not worth a process."""
    import torch
    from torch.utils.data import DataLoader

    if len(arguments) < 2 or not _have_company():
        workers = 0
    loader: DataLoader[Any] = DataLoader(
        _Calls(function, arguments),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=min(workers, len(arguments)),
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # else each loader draws from torch's global generator, and changes the training
    )
    return iter(loader)


@functools.cache
def _have_company() -> bool:
    """Whether processes can talk to each other here; in a container without /dev/shm they cannot."""
    try:
        multiprocessing.Lock()
    except (OSError, ImportError) as error:
        log.warning("images are decoded by this process alone, as there can be no workers: %s", error)
        return False
    return True


def _as_it_is(result: T) -> T:
    return result
