"""What a family of models must tell so that its networks can grow: units of channels, and where they lie.

A unit is a group of channels that have one width: a convolution's output, or, where sums tie several outputs to each
other, all of them together. Whatever changes a width and carries weights knows this contract and no family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from nasdistill.data.base import Shape
from nasdistill.errors import UserError
from nasdistill.models.base import Model
from nasdistill.validation import build

G = TypeVar("G", bound="Growable")


@dataclass(frozen=True)
class Unit:
    """Channels that can only change together.

    Attributes:
        name: unique in the model; by default the path of the module whose output they are.
        width: their present number.
        parts: in how many parts, as equal as can be and the larger ones last, modules make or read them, such as the
            groups of a convolution. A new channel copies one of its own part.
        multiple: widths are multiples of this, e.g. of the number of groups or heads.
    """

    name: str
    width: int
    parts: int = 1
    multiple: int = 1

    def part(self, number: int | None, width: int | None = None) -> range:
        """The channels of one part, or all for None, if the unit has `width` of them."""
        width = self.width if width is None else width
        if number is None:
            return range(width)
        return range(number * width // self.parts, (number + 1) * width // self.parts)


@dataclass(frozen=True)
class Point:
    """Where channels of a unit can be read: in the output [N, C, ...] of a module, those from `start` to `stop`."""

    path: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Slot:
    """Where a unit's channels lie along one dimension of a tensor.

    A depthwise filter has a slot in its first dimension alone, a tied convolution one in its first as its neighbour
    has, and what reads a concatenation one at the unit's offset.

    Attributes:
        tensor: its name in the network's state.
        reads: whether the dimension is the input of a weight, so that copies share what they contribute.
        offsets: where the channels begin, as often as they lie there, in ascending order.
        part: which part of the channels it is; None for all.
        repeat: neighbouring elements that belong to one channel, such as the places of a flattened map.
    """

    tensor: str
    dimension: int
    reads: bool
    offsets: tuple[int, ...] = (0,)
    part: int | None = None
    repeat: int = 1


class Growable(Model):
    """Base of the models that can grow."""

    def units(self) -> tuple[Unit, ...]:
        """Whatever may change its width, in the order of the network. What may not is no unit."""
        raise NotImplementedError(type(self).__name__)

    def with_widths(self: G, widths: Mapping[str, int]) -> G:
        """The model with other widths of the units that are named."""
        raise NotImplementedError(type(self).__name__)

    def points(self, unit: Unit) -> Sequence[Point]:
        """Where the unit leaves what makes it."""
        return (Point(unit.name),)

    def slots(self, unit: Unit, shape: Shape, classes: int) -> Sequence[Slot]:
        """Wherever the unit's channels lie in the network's state; by default what `slots_by_size` finds."""
        return tuple(slots_by_size(self, unit, shape, classes))

    def base_width(self) -> int:
        """The width that grows by whole channels, all others in proportion, where all are scaled alike."""
        return self.units()[0].width

    def scaled(self: G, factor: float) -> G:
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

    def depth(self) -> int | None:
        """The number of blocks that can be more; None for a family that knows no depth."""
        return None

    def deepened(self: G, depth: int) -> G:
        """The model with more blocks of the widths that it has; only where it has a depth."""
        raise NotImplementedError(type(self).__name__)

    def with_options(self: G, **options: Any) -> G:
        """The model with other options, validated."""
        return build(type(self), {**self.model_dump(), **options})


def slots_by_size(model: Growable, unit: Unit, shape: Shape, classes: int, copies: int = 1) -> Iterator[Slot]:
    """The slots of a unit, told by which sizes change with its width, in the order of the network's state.

    So an operation of a plug-in is understood as well, if its sizes are its channels.

    Args:
        copies: how many times the channels may lie side by side, as in a concatenation of equal outputs.

    Raises:
        UserError: a size changes in another way, as behind a flattened map or in a concatenation with other units;
            the family has to say in `slots` what lies there.
    """
    # Every part is larger there, and parts that are equal here are not, where they can differ at all.
    probe = unit.width + unit.multiple * (unit.parts + 1)
    kinds: dict[tuple[int, int], tuple[int | None, int]] = {
        (len(unit.part(part)), len(unit.part(part, probe))): (part, 1) for part in reversed(range(unit.parts))
    }
    kinds |= {(copies * unit.width, copies * probe): (None, copies), (unit.width, probe): (None, 1)}
    with torch.device("meta"):
        now = model.build(shape, classes).state_dict()
        wider = model.with_widths({unit.name: probe}).build(shape, classes).state_dict()
    for name, tensor in now.items():
        for dimension, sizes in enumerate(zip(tensor.shape, wider[name].shape, strict=True)):
            if sizes[0] == sizes[1]:
                continue
            if sizes not in kinds:
                raise UserError(
                    f"dimension {dimension} of {name!r} becomes {sizes[1]} from {sizes[0]} when {unit.name!r} becomes "
                    f"{probe} from {unit.width}: {type(model).__name__}.slots has to say what lies there"
                )
            part, times = kinds[sizes]
            offsets = tuple(number * unit.width for number in range(times))
            yield Slot(name, dimension, dimension == 1, offsets, part)
