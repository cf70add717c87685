"""What a data set is: images (or waveforms, or texts), labels, class names, and the numbers that normalise them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator

from nasdistill.component import Facts, Options
from nasdistill.data.augmentations import Augmentation, PixelAugmentation
from nasdistill.errors import SpecError
from nasdistill.registry import Component, ComponentOf, Registry
from nasdistill.training.batches import NO_LABEL
from nasdistill.words import whole

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]
"""Channels, height, width."""
Resize = Literal["squash", "crop", "pad"]
"""How an image comes to a size of another side ratio: out of proportion; its middle alone; or all of it, between black
bars."""
LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue are of grey (ITU-R BT.601, section 2.5.1)."""


def _size(value: Any) -> Any:
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isdecimal()):
        value = f"{value}x{value}"
    if isinstance(value, str):
        sides = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", value)
        if sides is None or min(map(int, sides.groups())) < 1:
            raise ValueError("must be height x width such as 32x32, or one number for both, each from 1 to 999999")
        return int(sides[1]), int(sides[2])
    return value


Size = Annotated[
    tuple[int, int],
    BeforeValidator(_size),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}", return_type=str),
    Field(title="height x width"),
]
"""Height and width in pixels, written `32x48`, or `32` for both."""


class Normalisation(Options):
    """Per-channel mean and standard deviation of pixels in [0, 1]."""

    mean: tuple[float, ...] = Field(description="mean per channel, of pixels scaled to [0, 1]")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        description="standard deviation per channel, of pixels scaled to [0, 1]"
    )


@dataclass(frozen=True)
class Words:
    """What the numbers in texts stand for.

    Attributes:
        tokens: of all texts, by their numbers: first those of the vocabulary, then what networks do not know.
        known: how many the vocabulary has.
    """

    tokens: tuple[str, ...]
    known: int

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.tokens[: self.known]


@dataclass(frozen=True)
class ImageSet:
    """Images that fit in memory.

    Attributes:
        images: [N, C, H, W], on the CPU: pixels as uint8, samples of waveforms [N, C, 1, L] as uint8 or int16, tokens
            of texts [N, 1, 1, L] by their numbers as int32.
        labels: int64, [N].
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def subset(self, indices: torch.Tensor) -> ImageSet:
        """The images at `indices` (int64, [M]), in that order."""
        return ImageSet(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class ImageFiles:
    """Images that do not fit in memory: each is decoded again whenever it is needed.

    Attributes:
        paths: [N] files, each known to decode.
        labels: int64, [N].
        shape: channels, height and width that each file is converted and resized to.
        sums: int64, [N, C], sum of the pixel values 0..255 of each image.
        squares: int64, [N, C], sum of their squares.
        workers: processes that decode.
        resize: how they are.
        first_size: height and width that each comes to before, where `shape` is what it is resized to once more.
    """

    paths: tuple[Path, ...]
    labels: torch.Tensor
    shape: Shape
    sums: torch.Tensor
    squares: torch.Tensor
    workers: int
    resize: Resize = "squash"
    first_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: torch.Tensor) -> ImageFiles:
        """The images at `indices` (int64, [M]), in that order."""
        paths = tuple(self.paths[index] for index in indices.tolist())
        chosen = {name: getattr(self, name)[indices] for name in ("labels", "sums", "squares")}
        return replace(self, paths=paths, **chosen)


Images = ImageSet | ImageFiles


def has_labels(images: Images) -> bool:
    """Whether they all have classes; labels are `NO_LABEL` of all or of none."""
    return int(images.labels.min()) != NO_LABEL


def joined(first: Images, second: Images) -> Images:
    """The images of both, which are of one kind and shape.

    Raises:
        TypeError: they are of two kinds.
    """
    import torch

    labels = torch.cat([first.labels, second.labels])
    if isinstance(first, ImageSet) and isinstance(second, ImageSet):
        return ImageSet(torch.cat([first.images, second.images]), labels)
    if isinstance(first, ImageFiles) and isinstance(second, ImageFiles):
        sums, squares = (torch.cat([getattr(each, name) for each in (first, second)]) for name in ("sums", "squares"))
        return replace(first, paths=first.paths + second.paths, labels=labels, sums=sums, squares=squares)
    raise TypeError("images in memory and in files have no common form")


@dataclass(frozen=True)
class RawData:
    """All images of a data set as its files hold them, before `limit` and the split.

    Attributes:
        validation: where the files come with a validation set of their own.
        words: where they hold texts.
        split_test: whether the files come without a test set, so that `test` was split off `train`.
        unlabelled: further images to train on, whose classes nobody knows.
        resize: how images in files came to their size, where they did.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]
    validation: Images | None = None
    words: Words | None = None
    split_test: bool = False
    unlabelled: Images | None = None
    resize: Resize = "squash"


class DataSet(Component):
    """Base of all data sets: where the images come from.

    A subclass implements `fingerprint` and `read`, and adds its options.
    """

    has_images: ClassVar[bool] = True
    """Whether there is anything to read."""
    has_labels: ClassVar[bool] = True
    """Whether its images have classes."""
    access: ClassVar[frozenset[str]] = frozenset()
    """Options that say how the images reach the memory, and nothing of what they are; they are part of no key."""

    validation: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="fraction of the training set, stratified by class, that selects; the test set never does",
    )
    normalisation: Normalisation | Literal["computed"] = Field(
        "computed", description="mean and std per channel, or 'computed' from the training images"
    )
    augmentations: list[Annotated[Any, ComponentOf("augmentations")]] = Field(
        default_factory=list, description="what is done to each training batch, in order"
    )
    limit: int | None = Field(
        None,
        gt=0,
        description="take only this many training images, stratified by class, before validation is split off",
    )

    @field_validator("augmentations")
    @classmethod
    def _colours_before_floats(cls, augmentations: list[Any]) -> list[Any]:
        floats = None
        for number, each in enumerate(augmentations):
            if floats is not None and isinstance(each, PixelAugmentation):
                raise SpecError(f"{each.registered_name} changes colours of 8 bits: list it before {floats}", (number,))
            floats = floats or (each.registered_name if each.normalised else None)
        return augmentations

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if self.limit and facts.read is not None and self.limit >= facts.read:
            yield "limit", f"there are {facts.read} images to train on"
        if facts.comes_with_validation:
            for name in self.differs("validation"):
                yield name, "the files come with validation images of their own"

    def fingerprint(self) -> str:
        """SHA-256 over the bytes that the images are made from; a touched time does not change it.

        Raises:
            UserError: the files are missing; says where they were looked for and what to do.
        """
        raise NotImplementedError(type(self).__name__)

    def read(self) -> RawData:
        """All images, as the files hold them.

        Raises:
            UserError: files are missing or broken.
        """
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True, repr=False)
class Data:
    """A data set, split and ready for loaders.

    Attributes:
        seed: what the validation images were split off with.
        words: of texts.
        unlabelled: further images to train on, whose classes nobody knows.
        resize: how images in files came to their size, where they did.
    """

    train: Images
    validation: Images
    test: Images
    classes: tuple[str, ...]
    normalisation: Normalisation
    augmentations: tuple[Augmentation, ...] = ()
    seed: int = 0
    words: Words | None = None
    unlabelled: Images | None = None
    resize: Resize = "squash"

    def __repr__(self) -> str:
        sizes = [whole(len(part)) for part in (self.train, self.validation, self.test)]
        more = f" (and {whole(len(self.unlabelled))} without labels)" if self.unlabelled else ""
        images = f"{sizes[0]} training{more}, {sizes[1]} validation, {sizes[2]} test images"
        return f"{images} of {'x'.join(map(str, self.shape))} in {len(self.classes)} classes"

    @property
    def shape(self) -> Shape:
        return self.train.shape

    def normalised_for(self, normalisation: Normalisation | None) -> Data:
        """With the normalisation that a network was trained with, where it is known."""
        return self if normalisation is None else replace(self, normalisation=normalisation)


DATASETS: Registry[DataSet] = Registry("datasets", DataSet, "nasdistill.data.sets")
