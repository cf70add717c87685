"""Networks of any author with other numbers of channels: the same modules, with parameters of other shapes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nasdistill.data.base import Shape
from nasdistill.models.channels import ChannelGroup, channel_groups
from nasdistill.models.inspection import blank_image
from nasdistill.training.modes import in_evaluation_mode


def tried_groups(network: nn.Module, shape: Shape) -> tuple[ChannelGroup, ...]:
    """As `channel_groups`; groups stay with which the network's code fails when they have one channel more.

    A network may count on its own number of channels, as for the heads of its attention, where no operation tells.
    """
    groups = channel_groups(network, shape)
    free = [group for group in groups if group.fixed is None]
    if _fails(network, groups, shape, free) is None:
        return groups
    told = {group.name: _fails(network, groups, shape, [group]) for group in free}
    return tuple(replace(group, fixed=group.fixed or told[group.name]) for group in groups)


def _fails(
    network: nn.Module, groups: Sequence[ChannelGroup], shape: Shape, wider: Sequence[ChannelGroup]
) -> str | None:
    """Why a copy of the network does not run with one more channel in each of these groups."""
    if not wider:
        return None
    other = copy.deepcopy(network)
    set_widths(other, groups, {group.name: group.width + 1 for group in wider})
    try:
        with in_evaluation_mode(other), torch.no_grad():
            other(blank_image(other, shape))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"the network's code fails with one more: {str(error).splitlines()[0]}"
    return None


def new_shapes(
    shapes: Mapping[str, Sequence[int]], groups: Sequence[ChannelGroup], widths: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that change when groups of channels get other widths, by their names.

    Args:
        shapes: of the network as it is.
        groups: of that network.
        widths: by the names of groups.
    """
    changed: dict[str, list[int]] = {}
    for group in groups:
        by = widths.get(group.name, group.width) - group.width
        for place in group.places if by else ():
            shape = changed.setdefault(place.tensor, list(shapes[place.tensor]))
            shape[place.dimension] += by * place.positions.shape[1]
    return {name: tuple(shape) for name, shape in changed.items()}


def set_widths(network: nn.Module, groups: Sequence[ChannelGroup], widths: Mapping[str, int]) -> None:
    """Give groups of channels other widths, in place; all tensors that change are drawn anew, see `drawn_like`.

    Args:
        groups: of the network as it is.
        widths: by the names of groups, at least 1.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, shape in new_shapes({name: each.shape for name, each in tensors.items()}, groups, widths).items():
        path, _, own = name.rpartition(".")
        module, old = network.get_submodule(path), tensors[name]
        new = drawn_like(old.detach(), shape)
        if isinstance(old, nn.Parameter):
            setattr(module, own, nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            module.register_buffer(own, new, persistent=own not in module._non_persistent_buffers_set)
        if own == "weight" or (own == "running_mean" and module.weight is None):
            _tell(module, new.shape)


def drawn_like(old: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of another shape, as whoever drew `old` might have drawn it, by torch's global generator.

    One value, where all are equal; else values of `old` at random, in weights times sqrt(what a row of `old` reads
    over what a new one reads), so that the variance of what they put out stays.
    """
    if old.is_meta or not old.numel():
        return torch.empty(shape, device=old.device, dtype=old.dtype)
    flat = old.flatten()
    if bool((flat == flat[0]).all()):
        return flat[:1].expand(math.prod(shape)).reshape(shape).clone()
    scale = math.sqrt(math.prod(old.shape[1:]) / math.prod(shape[1:])) if old.ndim > 1 else 1.0
    return (scale * flat[torch.randint(len(flat), (math.prod(shape),))]).reshape(shape)


def _tell(module: nn.Module, shape: torch.Size) -> None:
    """Make what a module says of its sizes true."""
    if isinstance(module, _ConvTransposeNd):
        module.in_channels, module.out_channels = shape[0], shape[1] * module.groups
    elif isinstance(module, _ConvNd):
        if module.groups == module.in_channels > 1:
            module.in_channels = module.groups = shape[0] // (module.out_channels // module.in_channels)
        module.in_channels, module.out_channels = shape[1] * module.groups, shape[0]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, _NormBase):
        module.num_features = shape[0]
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = shape[0]
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(shape)
