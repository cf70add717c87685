"""More blocks in a network that computes the same: blocks of a residual network which begin as the identity.

In a block that is added, the weight that ends the residual branch is zero, so that the sum is what the block reads. In
a network that concatenates, the weights of what was there are zero where they read what a new layer adds.

Source: Chen et al. 2016, Net2Net, section 2.3; the last scale of zero is from Goyal et al. 2017 (arXiv:1706.02677),
section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.growth.coupling import groups_of
from nasdistill.growth.plan import as_deep_as, growable
from nasdistill.models.base import NetworkSpec
from nasdistill.models.channels import Place


def deepened_to(other: NetworkSpec, spec: NetworkSpec, network: nn.Module) -> tuple[NetworkSpec, nn.Module]:
    """The network with as many blocks as that of `other` has, see `deepened`; itself if it has.

    Raises:
        UserError: blocks of the model cannot pass on what they read.
    """
    deeper = as_deep_as(other, spec)
    return deeper, network if deeper is spec else deepened(spec, network, deeper)


def deepened(spec: NetworkSpec, network: nn.Module, deeper: NetworkSpec) -> nn.Module:
    """The network of `deeper`, of more blocks and the same widths, which computes what `network` does.

    Its other weights are drawn by torch's global generator.

    Args:
        network: built from `spec`; unchanged.

    Returns:
        the network, of the same precision, on the same device, in the same mode.

    Raises:
        UserError: blocks of the model cannot pass on what they read.
    """
    silent = growable(deeper).identity_weights()
    if silent is None:
        name = deeper.model.registered_name
        raise UserError(f"blocks of {name!r} cannot pass on what they read, so that none can be added to a network's")
    before, after = ({group.name: group for group in groups_of(each)} for each in (spec, deeper))
    lies: dict[str, list[tuple[Place, Place]]] = {}
    for name in before.keys() & after.keys():
        for old in before[name].places:
            new = next(p for p in after[name].places if (p.tensor, p.dimension) == (old.tensor, old.dimension))
            lies.setdefault(old.tensor, []).append((old, new))
    grown = deeper.build().to(next(network.parameters()))
    held = network.state_dict()
    for name, fresh in grown.state_dict().items():
        if name in held:
            _set_in(fresh, held[name], lies.get(name, ()))
        elif any(fnmatch(name, pattern) for pattern in silent):
            fresh.zero_()
    return grown.train(network.training)


def _set_in(fresh: torch.Tensor, old: torch.Tensor, lies: Sequence[tuple[Place, Place]]) -> None:
    """Put the values of `old` where its channels lie in `fresh`, in place; they read nothing of those between them."""
    at, reading = [torch.arange(size) for size in old.shape], set()
    for before, now in lies:
        at[before.dimension][before.positions] = now.positions[: len(before.positions)]
        if before.reads:
            reading.add(before.dimension)
    whole = [torch.arange(fresh.shape[axis]) if axis in reading else lying for axis, lying in enumerate(at)]
    fresh[_box(whole)] = 0
    fresh[_box(at)] = old


def _box(indices: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """An index of the elements at all combinations of the indices along each dimension."""
    return tuple(
        index.reshape([-1 if axis == along else 1 for axis in range(len(indices))])
        for along, index in enumerate(indices)
    )
