"""Which channels of a network can only change together, found by running it once.

While an image runs through the network, every number of every tensor carries the name of the channel that it belongs
to. What moves numbers moves their names; a sum makes two names one; a convolution reads the names of its inputs and
gives those of its filters. So the network may be written in any way, and what an operation does to channels has to be
known only for those few that mix them. Where it is not known, the channels stay as many as they are, with the reason.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.channels.rules import RULES
from nasdistill.models.channels.tracer import Tracer, tensors_in
from nasdistill.models.inspection import blank_image
from nasdistill.training.modes import in_evaluation_mode

BRANCHES = "the network's code asks for numbers that it computes, so that other images may take another way"


@dataclass(frozen=True)
class Place:
    """Where the channels of a group lie along one dimension of a tensor of the network's state.

    Attributes:
        reads: the dimension is the input of a weight, so that copies share their contribution.
        positions: of each channel, ascending, int64 [width, times].
    """

    tensor: str
    dimension: int
    reads: bool
    positions: torch.Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that lie in the same tensors, so that one more or less of them changes all of these alike.

    Attributes:
        name: path of the first module that puts them out.
        fixed: why their number cannot change; None if it can.
        mixed: a norm takes them together, so that copies of some change the others.
    """

    name: str
    width: int
    places: tuple[Place, ...]
    fixed: str | None = None
    mixed: bool = False


def channel_groups(network: nn.Module, shape: Shape) -> tuple[ChannelGroup, ...]:
    """All groups of channels of a network, in the order of its state.

    Args:
        network: on any device; unchanged. On the meta device it takes ten times as long.
        shape: channels, height and width of its images.
    """
    tracer = Tracer(network, RULES)
    images = blank_image(network, shape)
    run: Callable[..., Any] = getattr(network, "forward_with_auxiliary", network)
    with in_evaluation_mode(network), torch.no_grad(), tracer:
        outputs = run(images)
    for output in tensors_in(outputs):
        tracer.fix(output, "they are the network's outputs")
    return tuple(_groups(tracer))


def _groups(tracer: Tracer) -> Iterator[ChannelGroup]:
    for name in tracer.shared:
        tracer.fix_state(name, "several layers share them")
    for name in tracer.state.keys() - tracer.used:
        tracer.fix_state(name, "they take no part in the forward pass")
    sides = [(name, at) for name, tensor in tracer.state.items() for at in range(tensor.ndim)]
    sides = [side for side in sides if side in tracer.known]
    lying = [(channel, side, at) for side in sides for at, channel in enumerate(tracer.names.roots(tracer.side(*side)))]
    lying.sort(key=lambda each: each[0])
    alike: dict[Any, list[list[int]]] = {}
    for channel, lies in itertools.groupby(lying, key=lambda each: each[0]):
        here = [each[1:] for each in lies]
        where = tuple(side for side, _at in here)
        reason = BRANCHES if tracer.branches else tracer.names.reason(channel)
        what = reason, tracer.names.is_mixed(channel)
        alike.setdefault((where, *what), []).append([at for _side, at in here])
    taken: Counter[str] = Counter()
    for (where, fixed, mixed), channels in alike.items():
        positions = torch.tensor(channels)
        places = tuple(
            Place(side[0], side[1], side in tracer.reading, positions[:, where.index(side) :][:, :times])
            for side, times in Counter(where).items()
        )
        first = next((place for place in places if not place.reads), places[0])
        if len(channels) == 1 and first.positions.shape[1] > 1:
            fixed = fixed or "all of them hang together as one"
        path = first.tensor.rpartition(".")[0] or first.tensor
        taken[path] += 1
        name = path if taken[path] == 1 else f"{path}:{taken[path]}"
        yield ChannelGroup(name, len(channels), places, fixed, mixed)
