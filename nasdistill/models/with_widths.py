"""Networks of any model with other numbers of channels in the groups that they tie."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import UserError, unknown
from nasdistill.models.base import MODELS, Model
from nasdistill.models.channels import ChannelGroup, Place
from nasdistill.models.channels.widths import new_shapes, set_widths, tried_groups
from nasdistill.models.inspection import is_auxiliary, multiply_adds_by_weight
from nasdistill.models.scalable import Measure, Point, Scalable, Unit
from nasdistill.registry import ComponentOf


@MODELS.register("with-widths")
class WithWidths(Scalable):
    """Another model's network with other widths; `inspect MODEL --channels` lists its groups of channels.

    Modules and their paths stay, so that weights of the network fit where the widths are its own. New weights are drawn
    from the values of those that the model itself draws, scaled to what they read.
    """

    reads_texts: ClassVar[bool] = True
    source: ClassVar[str] = "groups of channels as in Fang et al. 2023, DepGraph (arXiv:2301.12900), section 3"

    model: Annotated[Any, ComponentOf("models")] = Field(description="the model")
    traced_at: tuple[int, int, int] = Field(
        (3, 64, 64), description="channels, height and width of the images that the groups are found with"
    )
    widths: dict[str, Annotated[int, Field(gt=0)]] = Field(
        {}, description="channels by the names of groups, where they are not the model's own"
    )

    @classmethod
    def of(cls, model: Model, shape: Shape) -> WithWidths:
        """A model whose widths can change, still with its own; where it resizes its images, this does."""
        plain = model.model_copy(update={"size": None})
        return cls(model=plain, traced_at=model.reads(shape), size=model.size)

    def groups(self) -> tuple[ChannelGroup, ...]:
        """The groups of the model's network whose widths can change, with the model's widths."""
        found = _groups(_plain(self.model), self.traced_at, 2)
        return tuple(group for group in found if group.fixed is None)

    def units(self) -> tuple[Unit, ...]:
        return tuple(Unit(group.name, self.widths.get(group.name, group.width)) for group in self.groups())

    def points(self, unit: Unit) -> Sequence[Point]:
        """Behind each batch norm that a group passes; of one that passes none, behind the layers that put it out."""
        group = next(group for group in self.groups() if group.name == unit.name)
        written = [place for place in group.places if not place.reads]
        norms = [place for place in written if place.tensor.endswith(".running_mean")]
        shapes = _counts(_plain(self.model), self.traced_at, 2).shapes
        layers = [place for place in written if place.tensor.endswith(".weight") and len(shapes[place.tensor]) > 1]
        return tuple(point for place in norms or layers for point in points_at(place))

    def with_widths(self, widths: Mapping[str, int]) -> WithWidths:
        own = {group.name: group.width for group in self.groups()}
        found = {**self.widths, **widths}
        return self.with_options(widths={name: width for name, width in found.items() if width != own.get(name)})

    def build(self, shape: Shape, classes: int) -> nn.Module:
        network: nn.Module = self.model.build(shape, classes)
        if self.widths:
            groups = _groups(_plain(self.model), shape, classes)
            _check(self.widths, groups)
            set_widths(network, groups, self.widths)
        return network

    def counted(self, measure: Measure, shape: Shape, classes: int) -> int:
        counts = _counts(_plain(self.model), shape, classes)
        groups = _groups(_plain(self.model), shape, classes)
        changed = new_shapes(counts.shapes, groups, self.widths)
        shapes = {name: changed.get(name, old) for name, old in counts.shapes.items()}
        if measure == "params":
            return sum(math.prod(shapes[name]) for name in counts.parameters)
        return counts.others + sum(count * math.prod(shapes[name]) for name, count in counts.per_weight.items())


def points_at(place: Place) -> Iterator[Point]:
    """Where the channels that lie along a tensor's first dimension can be read: behind the tensor's module."""
    path, positions = place.tensor.rpartition(".")[0], place.positions.flatten().sort().values
    runs = positions.tensor_split(((positions.diff() != 1).nonzero().flatten() + 1).tolist())
    return (Point(path, int(run[0]), int(run[-1]) + 1) for run in runs)


def _plain(model: Model) -> str:
    """A model as a key of caches."""
    return json.dumps(model.spec())


def _built(model: str, shape: Shape, classes: int) -> nn.Module:
    return MODELS.parse(json.loads(model)).build(shape, classes)


@functools.lru_cache(maxsize=32)
def _groups(model: str, shape: Shape, classes: int) -> tuple[ChannelGroup, ...]:
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return tried_groups(_built(model, shape, classes), shape)


@dataclass(frozen=True)
class Counts:
    """What a network costs.

    Attributes:
        shapes: of its parameters and buffers.
        parameters: names of those that count.
        per_weight: multiply-adds for each number of a weight, by the weight's name.
        others: multiply-adds of no weight's.
    """

    shapes: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...]
    per_weight: Mapping[str, int]
    others: int


@functools.lru_cache(maxsize=32)
def _counts(model: str, shape: Shape, classes: int) -> Counts:
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        network = _built(model, shape, classes)
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    shapes = {name: tuple(tensor.shape) for name, tensor in {**parameters, **buffers}.items()}
    per_weight, others = {}, 0
    for name, count in multiply_adds_by_weight(network, shape).items():
        per_weight[name], rest = divmod(count, math.prod(shapes[name])) if name else (0, count)
        others += rest
    counted = tuple(name for name in parameters if not is_auxiliary(name))
    return Counts(shapes, counted, {name: count for name, count in per_weight.items() if count}, others)


def _check(widths: Mapping[str, int], groups: Sequence[ChannelGroup]) -> None:
    """Refuse groups that there are not, and those that cannot change."""
    by_name = {group.name: group for group in groups}
    for name, width in widths.items():
        if name not in by_name:
            raise UserError(unknown("group of channels", name, by_name))
        if by_name[name].fixed is not None and width != by_name[name].width:
            raise UserError(f"the channels of {name!r} stay {by_name[name].width}: {by_name[name].fixed}")
