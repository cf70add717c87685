"""The contract of model families whose networks exist in any size: their units of channels, and their depth.

A unit is a group of channels that have one width: a convolution's output, or, where sums tie several outputs to each
other, all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from nasdistill.data.base import Shape
from nasdistill.models.base import Model
from nasdistill.validation import build

if TYPE_CHECKING:
    from torch import nn

S = TypeVar("S", bound="Scalable")


Measure = Literal["params", "flops"]
"""What size means: parameters, or multiply-adds for one image."""


@dataclass(frozen=True)
class Unit:
    """Channels whose number can only change together.

    Attributes:
        name: unique in the model; by default the path of the module whose output they are.
        width: their current number.
        multiple: widths are multiples of this, e.g. of the number of groups or heads.
    """

    name: str
    width: int
    multiple: int = 1


@dataclass(frozen=True)
class Point:
    """Where channels of a unit can be read: in the output [N, C, ...] of a module, those from `start` to `stop`."""

    path: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Part:
    """A module of a network: what builds it, and what it reads. Equal parts are of equal size, and counted once.

    Attributes:
        reads: shape of its input without the batch.
    """

    make: Callable[..., nn.Module]
    arguments: tuple[Hashable, ...]
    reads: Shape

    def build(self) -> nn.Module:
        return self.make(*self.arguments)


class Scalable(Model):
    """Base of the models whose widths can change."""

    def parts(self, shape: Shape, classes: int) -> Iterable[Part]:
        """Modules whose sizes add up to that of the network without its auxiliary head.

        By default the network itself. Who fits a size asks for sizes many times, and builds parts that were not met.
        """
        return (Part(built, (type(self), self.model_dump_json(), shape, classes), shape),)

    def units(self) -> tuple[Unit, ...]:
        """All channels whose number can change, in the order of the network."""
        raise NotImplementedError(type(self).__name__)

    def points(self, unit: Unit) -> Sequence[Point]:
        """Where the unit is the output of a module; by default the module has the unit's name."""
        return (Point(unit.name),)

    def with_widths(self: S, widths: Mapping[str, int]) -> S:
        """The model with other widths of the units that are named."""
        raise NotImplementedError(type(self).__name__)

    def reason_not_to_copy(self) -> str | None:
        """Why channels of a trained network cannot be copied into a wider one, in a sentence; None if they can."""
        return None

    def counted(self, measure: Measure, shape: Shape, classes: int) -> int | None:
        """The size of its network, where that can be told without building it."""
        return None

    def base_width(self) -> int:
        """The width that uniform scaling changes by whole channels, all others in proportion."""
        return self.units()[0].width

    def scaled(self: S, factor: float) -> S:
        """The model with every width multiplied by `factor`.

        Units are rounded at different points, so that over a small change of the factor those of equal width gain
        their next channel one after the other: no width is off by a whole channel, and sizes lie close together.
        """
        units = self.units()
        return self.with_widths(
            {
                unit.name: unit.multiple
                * max(1, math.floor(factor * unit.width / unit.multiple + (index + 0.5) / len(units)))
                for index, unit in enumerate(units)
            }
        )

    def blocks(self) -> int | None:
        """The number of blocks, or of those of a stage; None where that is fixed."""
        return None

    def with_blocks(self: S, blocks: int) -> S:
        """The model with so many blocks of the same widths; only called where `blocks` is not None."""
        raise NotImplementedError(type(self).__name__)

    def identity_weights(self) -> tuple[str, ...] | None:
        """The weights that are zero in a block that is added and is to change nothing, as patterns of `fnmatch`.

        None where no block can be added so, as the blocks have no path that passes on all that they read.
        """
        return None

    def with_options(self: S, **options: Any) -> S:
        """The model with other options, validated."""
        return build(type(self), {**self.model_dump(), **options})


def built(family: type[Model], options: str, shape: Shape, classes: int) -> nn.Module:
    """The network of a model that is given as JSON, which can be a key of caches."""
    return family.model_validate_json(options).build(shape, classes)
