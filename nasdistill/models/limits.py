"""What a family of networks can be: which depths exist, and how small an image may be."""

from __future__ import annotations

from pydantic import AfterValidator

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, UserError

DEEPEST = 10_000
"""Layers; a module is made for each, and ten thousand take seconds."""
MOST_CELLS = 1000


def one_of_depths(family: str, layers: int, fixed: int) -> AfterValidator:
    """Validates a depth of a family, which is `layers` * n + `fixed` for an n of at least 1.

    Its SpecError names the nearest depths that exist.
    """

    def exists(depth: int) -> int:
        if depth > DEEPEST:
            raise SpecError(f"a {family} has at most {DEEPEST} layers here, not {depth}")
        n, rest = divmod(depth - fixed, layers)
        if n >= 1 and rest == 0:
            return depth
        nearest = [layers * m + fixed for m in (n, n + 1) if m >= 1] or [layers + fixed]
        raise SpecError(
            f"a {family} has {layers}n+{fixed} layers, which {depth} is not; "
            f"the nearest {'depth is' if len(nearest) == 1 else 'depths are'} {' and '.join(map(str, nearest))}"
        )

    return AfterValidator(exists)


def odd(kernel: int) -> int:
    """The side of a kernel, if it is odd.

    Raises:
        SpecError: it is even.
    """
    if kernel % 2 == 0:
        raise SpecError(f"a kernel that keeps the size has an odd side, not {kernel}")
    return kernel


def require_images(family: str, shape: Shape, smallest: int = 1) -> None:
    """Refuse images without pixels or with a side below `smallest`.

    Raises:
        UserError: says what the shape is and what it must be.
    """
    channels, height, width = shape
    if channels < 1 or min(height, width) < smallest:
        raise UserError(
            f"a {family} needs images of at least 1x{smallest}x{smallest} "
            f"(channels x height x width), got {channels}x{height}x{width}"
        )


def require_waveforms(family: str, shape: Shape, shortest: int) -> None:
    """Refuse images of several rows, which are no waveforms, and waveforms of less than `shortest` samples.

    Raises:
        UserError: says what the shape is and what it must be.
    """
    channels, height, width = shape
    if channels < 1 or height != 1 or width < shortest:
        raise UserError(
            f"a {family} needs waveforms of 1x1x{shortest} or longer (channels x 1 x samples), "
            f"got {channels}x{height}x{width}"
        )
