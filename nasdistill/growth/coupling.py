"""The groups of channels of networks that are known by their spec alone, and to which unit each belongs."""

from __future__ import annotations

import functools

import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.growth.plan import growable, with_model
from nasdistill.models.base import NetworkSpec
from nasdistill.models.channels import ChannelGroup, channel_groups
from nasdistill.models.foresight import tentatively


def groups_of(spec: NetworkSpec) -> tuple[ChannelGroup, ...]:
    """The groups of channels of the network that a spec builds."""
    return _groups(spec.model_dump_json())


@functools.lru_cache(maxsize=32)
def _groups(spec: str) -> tuple[ChannelGroup, ...]:
    parsed = NetworkSpec.model_validate_json(spec)
    with tentatively():
        return channel_groups(parsed.build(), parsed.reads)


def filters_of(network: nn.Module, group: ChannelGroup) -> torch.Tensor:
    """The weights that put out each channel of a group, those of all its layers side by side, [width, weights]."""
    state = network.state_dict()
    found = [
        state[place.tensor].movedim(place.dimension, 0)[place.positions].flatten(start_dim=1)
        for place in group.places
        if not place.reads and state[place.tensor].ndim > 1
    ]
    return torch.cat(found, dim=1)


def groups_of_units(spec: NetworkSpec) -> dict[str, tuple[ChannelGroup, ...]]:
    """By the name of a unit, the groups whose widths follow it.

    They are found by widening all units at once, each by another number of channels, twice: a group changes in the same
    ratio as its unit, be it by half of its channels or by six times as many.

    Raises:
        UserError: a group's width follows several units.
    """
    model = growable(spec)
    units = model.units()
    steps = [(2 * (at + 1), 2 * (len(units) - at)) for at in range(len(units))]
    widths = {group.name: [group.width] for group in groups_of(spec)}
    for turn in (0, 1):
        wider = {unit.name: unit.width + unit.multiple * step[turn] for unit, step in zip(units, steps, strict=True)}
        for group in groups_of(with_model(spec, model.with_widths(wider))):
            widths.setdefault(group.name, []).append(group.width)
    found: dict[str, list[ChannelGroup]] = {unit.name: [] for unit in units}
    for group in groups_of(spec):
        before, *after = widths[group.name]
        first, second = (width - before for width in after)
        if first == second == 0:
            continue
        follows = [unit.name for unit, step in zip(units, steps, strict=True) if first * step[1] == second * step[0]]
        if len(follows) != 1:
            raise UserError(f"the channels of {group.name!r} follow several units of the model's")
        found[follows[0]].append(group)
    return {name: tuple(groups) for name, groups in found.items()}
