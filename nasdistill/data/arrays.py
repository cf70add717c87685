"""Arrays of one's own as images and labels: which axis is what, how large a value may be, what counts as a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nasdistill.errors import UserError

Array = np.ndarray[Any, Any]
Order = Literal["auto", "NCHW", "NHWC"]
Span = tuple[float, float]
"""The values that stand for black and white."""
BYTES: Span = (0, 255)
UNIT: Span = (0, 1)
COLOURS = (1, 3)
"""Channels that a shape is recognised by."""
AT_ONCE = 4096
DARK = 32
"""Where even the lightest of 0 to 255 is below it, values between whole numbers are of some other range."""


def in_planes(images: Array, order: Order) -> Array:
    """[N, H, W], [N, H, W, C] or [N, C, H, W] as [N, C, H, W].

    Raises:
        UserError: there are other axes, or nobody can tell which of them holds the channels.
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise UserError(
            f"an array of images is [N, H, W], [N, H, W, C] or [N, C, H, W], and this one is {list(images.shape)}"
        )
    if order == "auto":
        first, last = images.shape[1] in COLOURS, images.shape[3] in COLOURS
        if first == last:
            which = "both the second and the last" if first else "neither the second nor the last"
            raise UserError(
                f"of the shape {list(images.shape)} {which} number may be the channels; say which with data.order=NCHW "
                "or data.order=NHWC"
            )
        order = "NCHW" if first else "NHWC"
    return images if order == "NCHW" else images.transpose(0, 3, 1, 2)


def span_of(images: Array) -> Span:
    """What values of this array must mean: 0 to 255 for integers, 0 to 1 or 0 to 255 for floats by the largest.

    Raises:
        UserError: nobody can tell, as of values below 0.
    """
    if images.dtype == np.bool_:
        return UNIT
    low, high = images.min(), images.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{np.count_nonzero(~np.isfinite(images))} values are no finite numbers")
    if low < 0 or high > BYTES[1] or (UNIT[1] < high < DARK and (images != np.rint(images)).any()):
        raise UserError(
            f"the values go from {low:.6g} to {high:.6g}; say which of them are black and white with "
            f"data.values=[{low:.6g}, {high:.6g}] or wider"
        )
    return UNIT if images.dtype.kind == "f" and high <= 1 else BYTES


def as_bytes(images: Array, span: Span) -> Array:
    """uint8, of values x: the nearest whole number to 255 * (x - black) / (white - black).

    Raises:
        UserError: a value lies outside, or is no number.
    """
    if images.dtype == np.uint8 and span == BYTES:
        return images
    black, white = span
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), AT_ONCE):  # the wider copies stay small
        part = images[start : start + AT_ONCE].astype(np.float64)
        outside = ~((part >= black) & (part <= white))  # not a number lies nowhere
        if outside.any():
            number = start + int(np.flatnonzero(outside.reshape(len(part), -1).any(axis=1))[0])
            found = part[outside][0]
            raise UserError(f"image {number} has the value {found:.6g}, and values go from {black:.6g} to {white:.6g}")
        pixels[start : start + AT_ONCE] = np.rint(255 * (part - black) / (white - black))
    return pixels


@dataclass(frozen=True)
class Labels:
    """The class of each image, by its name.

    Attributes:
        values: [N], whole numbers or texts.
        columns: of one-hot rows, else None: then all of them are classes, whether an image has them or not.
    """

    values: Array
    columns: int | None = None


def as_labels(labels: Array) -> Labels:
    """Labels from [N] or [N, 1] whole numbers or texts, or from one-hot rows [N, K].

    Raises:
        UserError: they are anything else, such as shares of classes.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "biufUS":
        raise UserError(f"labels are whole numbers, texts or one-hot rows, and these are {labels.dtype}")
    if labels.ndim == 2:
        if labels.dtype.kind in "US":
            raise UserError(f"labels of shape {list(labels.shape)} give an image several texts")
        wrong = (np.count_nonzero(labels, axis=1) != 1) | (labels.max(axis=1) != 1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(f"row {row} of the labels is not one-hot, a 1 among zeros: {labels[row].tolist()[:12]}")
        return Labels(labels.argmax(axis=1), labels.shape[1])
    if labels.ndim != 1:
        raise UserError(f"labels are [N] or one-hot rows [N, classes], and these are {list(labels.shape)}")
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:  # replaced, two labels might become one
            raise UserError(f"the label {error.object!r} is no UTF-8 text") from None
    if labels.dtype.kind == "U":
        nameless = np.char.strip(labels) == ""
    else:
        nameless = (labels != np.rint(labels)) | (np.abs(labels.astype(np.float64)) >= 2.0**63)
    if nameless.any():
        row = int(np.flatnonzero(nameless)[0])
        raise UserError(f"label {row} is {labels[row].item()!r}, which names no class")
    return Labels(labels if labels.dtype.kind == "U" else labels.astype(np.int64))
