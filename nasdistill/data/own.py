"""Images of one's own in arrays: which array is what, and from there to a data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from pydantic import Field, field_validator

from nasdistill.data.arrays import Array, Labels, Order, Span, as_bytes, as_labels, in_planes, span_of
from nasdistill.data.base import ImageSet, RawData
from nasdistill.data.split_test_set import SplitsTest
from nasdistill.errors import SpecError, UserError, found_at, nearest
from nasdistill.storage import sha256_of, sha256_of_json
from nasdistill.words import some

log = logging.getLogger(__name__)

Role = Literal["train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"]
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}
WHAT = {
    "images": ("images", "image", "imgs", "x", "data", "pixels"),
    "labels": ("labels", "label", "y", "targets", "target"),
}


def _usual_names() -> dict[str, Role]:
    """By letters and digits alone, such as `xtrain`; without a part it is the training part."""
    names: dict[str, Role] = {}
    for part, what in product(PARTS, WHAT):
        role = cast(Role, f"{part}_{what}")
        for words in product(PARTS[part], WHAT[what]):
            names |= {"".join(both): role for both in permutations(words)}
        if part == "train":
            names |= dict.fromkeys(WHAT[what], role)
    return names


USUAL = _usual_names()


def usual_role(name: str) -> Role | None:
    """What an array or file of this name usually holds: `x_train`, `Train-Images`, `t10k-labels-idx1-ubyte.gz`, `y`."""
    return USUAL.get(re.sub(r"([-._](idx\d*|ubyte|gz|npy))+$|[^a-z0-9]", "", name.lower()))


@dataclass(frozen=True)
class Entry:
    """An array that is there to be read.

    Attributes:
        path: the file that holds it.
        key: its name in that file, where there are several.
    """

    path: Path
    read: Callable[[], Array]
    key: str = ""

    @property
    def name(self) -> str:
        return self.key or self.path.name

    def __str__(self) -> str:
        return f"{self.path} ({self.key})" if self.key else str(self.path)


class OwnArrays(SplitsTest):
    """Base of data sets of arrays: images and labels, of any size and number of classes.

    A subclass implements `entries`.
    """

    access: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Path = Field(description="the folder or file that holds the arrays")
    names: dict[Role, str] = Field(
        default_factory=dict,
        description="what holds which array, where usual names such as x_train, test-labels or t10k-images do not say: "
        "e.g. {train_images: pictures, train_labels: answers}",
    )
    order: Order = Field(
        "auto", description="axes of coloured images; auto: the channels are where there is a 1 or a 3"
    )
    values: Span | Literal["auto"] = Field(
        "auto",
        description="the values of black and white, e.g. [-1, 1]; auto: [0, 255] of integers, [0, 1] of floats that "
        "are at most 1, [0, 255] of others. Images are kept in 8 bits",
    )
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = Field(
        None, description="names of the classes 0, 1, ...; by default the labels that the training images have"
    )

    @field_validator("values")
    @classmethod
    def _white_is_more(cls, values: Span | str) -> Span | str:
        if not isinstance(values, str) and values[0] >= values[1]:
            raise SpecError(f"white must be a larger value than black, got {list(values)}")
        return values

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in classes or ():
            if classes and classes.count(name) > 1:
                raise SpecError(f"{name!r} names two classes")
        return classes

    def entries(self) -> Mapping[str, Entry]:
        """What is there, by the names that `names` may hold.

        Raises:
            UserError: there is nothing of the kind.
        """
        raise NotImplementedError(type(self).__name__)

    def fingerprint(self) -> str:
        assigned = self._assigned()
        hashes = {path: sha256_of(path) for path in {entry.path for entry in assigned.values()}}
        return sha256_of_json({role: [entry.key, hashes[entry.path]] for role, entry in assigned.items()})

    def read(self) -> RawData:
        assigned = self._assigned()
        log.info("%s: %s", self.root, ", ".join(f"{role} is {entry.name}" for role, entry in assigned.items()))
        images, labels = {}, {}
        spans: dict[Span, str] = {}
        for role, entry in assigned.items():
            part, _, what = role.partition("_")
            with found_at(by=str(entry)):
                array = entry.read()
                if not array.size:
                    raise UserError(f"it holds nothing, its shape is {list(array.shape)}")
                if what == "labels":
                    labels[part] = as_labels(array)
                    continue
                if array.dtype.kind not in "biuf":
                    raise UserError(f"images are numbers, and these are {array.dtype}")
                planes = in_planes(array, self.order)
                span = span_of(planes) if self.values == "auto" else self.values
                spans.setdefault(span, str(entry))
                images[part] = as_bytes(planes, span)
        if len(spans) > 1:
            told = ", ".join(f"{where} from {span[0]:g} to {span[1]:g}" for span, where in spans.items())
            raise UserError(
                f"images of one data set go {told}; say what all of them mean with data.values=[BLACK, WHITE]"
            )
        return self._assembled(images, labels)

    def _assigned(self) -> dict[Role, Entry]:
        """The array of each role; those of a part come together."""
        entries = self.entries()
        found: dict[Role, str] = {}
        for role, name in self.names.items():
            if name not in entries:
                guess = nearest(name, entries)
                hint = f"; did you mean {guess!r}?" if guess else ""
                problem = f"{self.root} holds no {name!r}{hint} (it holds {_listed(entries)})"
                raise SpecError(problem, ("names", role))
            found[role] = name
        for name in entries:
            usual = usual_role(name)
            if usual is None or usual in self.names or name in self.names.values():
                continue
            if usual in found:
                problem = f"both {found[usual]!r} and {name!r} in {self.root} may be {usual}; say which in data.names"
                raise SpecError(problem, ("names",))
            found[usual] = name
        for part in PARTS:
            missing = [role for role in get_args(Role) if role.startswith(f"{part}_") and role not in found]
            if len(missing) == 1 or (missing and part == "train"):
                problem = (
                    f"{self.root} holds {_listed(entries)}, and nothing says which is {' and '.join(missing)}; say so "
                    f"with data.names, e.g. {{{missing[0]}: NAME}}"
                )
                raise SpecError(problem, ("names",))
        return {role: entries[found[role]] for role in get_args(Role) if role in found}

    def _assembled(self, images: Mapping[str, Array], labels: Mapping[str, Labels]) -> RawData:
        columns = {part: each.columns for part, each in labels.items()}
        if len(set(columns.values())) > 1:
            raise UserError(f"the labels of {self.root} are one-hot rows of different lengths: {columns}")
        shape = images["train"].shape[1:]
        known = _classes(labels["train"], self.classes)
        sets = {}
        for part, pixels in images.items():
            values = labels[part].values
            if len(pixels) != len(values):
                raise UserError(f"{self.root} has {len(pixels)} {part} images and {len(values)} labels of them")
            if pixels.shape[1:] != shape:
                sizes = [" x ".join(map(str, each)) for each in (shape, pixels.shape[1:])]
                raise UserError(f"{self.root} has training images of {sizes[0]} and {part} images of {sizes[1]}")
            strange = [value for value in np.unique(values).tolist() if value not in known]
            if strange:
                raise UserError(
                    f"the {part} labels of {self.root} hold {strange[0]!r}, which is none of the classes "
                    f"{_listed(map(str, known))}"
                )
            numbers = np.array([known[value] for value in values.tolist()], dtype=np.int64)
            sets[part] = ImageSet(torch.from_numpy(np.array(pixels, order="C")), torch.from_numpy(numbers))
        classes = self.classes or tuple(map(str, known))
        return self.assembled(sets, classes)


def _classes(labels: Labels, names: tuple[str, ...] | None) -> dict[int | str, int]:
    """The number of the class that each label of the files stands for."""
    if labels.values.dtype.kind == "U":
        return {name: number for number, name in enumerate(names or np.unique(labels.values).tolist())}
    if names is not None and labels.columns not in (None, len(names)):
        raise SpecError(f"{len(names)} names for one-hot rows of {labels.columns}", ("classes",))
    if names is not None or labels.columns is not None:
        return {number: number for number in range(len(names) if names is not None else labels.columns or 0)}
    found = np.unique(labels.values).tolist()
    if len(found) < 2:
        raise UserError(f"all training labels are {found[0]}; at least 2 classes are needed")
    return {value: number for number, value in enumerate(found)}


def _listed(names: Iterable[str]) -> str:
    return some(list(map(repr, names)), most=12) or "nothing"
