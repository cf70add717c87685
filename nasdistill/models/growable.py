"""The contract of model families whose networks can grow: where in a network's state the channels of a unit lie.

Code that changes widths and carries weights depends on this contract, not on a family.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasdistill.data.base import Shape
from nasdistill.errors import UserError
from nasdistill.models.scalable import Scalable, Unit, built

if TYPE_CHECKING:
    import torch


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
        reads: the dimension is the input of a weight, so that copies share their contribution.
        offsets: start of each occurrence of the channels, ascending.
        part: the part of the channels that lies there; None for all.
        repeat: adjacent elements per channel, such as the positions of a flattened map.
    """

    tensor: str
    dimension: int
    reads: bool
    offsets: tuple[int, ...] = (0,)
    part: int | None = None
    repeat: int = 1


class Growable(Scalable):
    """Base of the models that can grow: it is known where in the state the channels of a unit lie."""

    def points(self, unit: Unit) -> Sequence[Point]:
        """Where the unit is the output of a module."""
        return (Point(unit.name),)

    def slots(self, unit: Unit, shape: Shape, classes: int) -> Sequence[Slot]:
        """Every place of the unit's channels in the network's state; by default found by `slots_by_size`."""
        return tuple(slots_by_size(self, unit, shape, classes))


def slots_by_size(model: Growable, unit: Unit, shape: Shape, classes: int, copies: int = 1) -> Iterator[Slot]:
    """The slots of a unit, found by which sizes change with its width, in the order of the network's state.

    This covers a plug-in's operations as well, if their sizes are their channels.

    Args:
        copies: how many times the channels may lie side by side, as in a concatenation of equal outputs.

    Raises:
        UserError: a size changes in another way, as behind a flattened map or in a concatenation with other units;
            the family has to define `slots`.
    """
    # Which dimensions change depends on no width: at reference widths they are found once, not at every step.
    reference = model.with_widths({each.name: 2 * each.parts * each.multiple for each in model.units()})
    for name, dimension, part, times in _pattern(
        type(model), reference.model_dump_json(), unit.name, shape, classes, copies
    ):
        yield Slot(name, dimension, dimension == 1, tuple(number * unit.width for number in range(times)), part)


@functools.lru_cache(maxsize=4096)
def _pattern(
    family: type[Growable], options: str, name: str, shape: Shape, classes: int, copies: int
) -> tuple[tuple[str, int, int | None, int], ...]:
    """Tensor, dimension, part and number of copies of each slot of the unit `name`."""
    model = family.model_validate_json(options)
    unit = next(each for each in model.units() if each.name == name)
    # Every part is larger there, and parts that are equal here are not, where they can differ at all.
    probe = unit.width + unit.multiple * (unit.parts + 1)
    kinds: dict[tuple[int, int], tuple[int | None, int]] = {
        (len(unit.part(part)), len(unit.part(part, probe))): (part, 1) for part in reversed(range(unit.parts))
    }
    kinds |= {(copies * unit.width, copies * probe): (None, copies), (unit.width, probe): (None, 1)}
    narrow = _shapes(family, options, shape, classes)
    wide = _shapes(family, model.with_widths({name: probe}).model_dump_json(), shape, classes)
    found = []
    for tensor, old in narrow.items():
        for dimension, sizes in enumerate(zip(old, wide[tensor], strict=True)):
            if sizes[0] == sizes[1]:
                continue
            if sizes not in kinds:
                raise UserError(
                    f"dimension {dimension} of {tensor!r} becomes {sizes[1]} from {sizes[0]} when {name!r} becomes "
                    f"{probe} from {unit.width}: {family.__name__}.slots has to define what lies there"
                )
            found.append((tensor, dimension, *kinds[sizes]))
    return tuple(found)


@functools.lru_cache(maxsize=4)  # the reference network is the same for all units
def _shapes(family: type[Growable], options: str, shape: Shape, classes: int) -> dict[str, torch.Size]:
    """The shape of each tensor in the network's state."""
    import torch

    with torch.device("meta"):
        network = built(family, options, shape, classes)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}
