"""Net2Wider: a wider network that computes the same function.

Every channel of a grown group copies one of its old channels, the same one in every tensor of the group. Weights that
read channels are divided by the number of copies, so that sums are unchanged.

Source: Chen et al. 2016, Net2Net: accelerating learning via knowledge transfer, section 2.2 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.growth.coupling import groups_of
from nasdistill.growth.plan import with_width
from nasdistill.models.base import NetworkSpec
from nasdistill.models.channels import ChannelGroup, Place
from nasdistill.models.foresight import tentatively

SYMMETRY = 1e-3
"""Noise on copies, which would learn alike for ever, as a fraction of a weight's standard deviation."""

Sources = Callable[[ChannelGroup, int], torch.Tensor]
"""Of a group and its new width, the old channel that each new one copies, int64 [width]."""


def random_sources(generator: torch.Generator) -> Sources:
    """All channels, then random ones; none is drawn again before all others are.

    Raises:
        UserError: when asked for fewer channels than there are.
    """

    def drawn(group: ChannelGroup, width: int) -> torch.Tensor:
        if width < group.width:
            raise UserError(f"the {group.width} channels of {group.name!r} cannot be widened to {width}")
        rounds = [torch.randperm(group.width, generator=generator) for _ in range(-(-width // group.width) - 1)]
        return torch.cat([torch.arange(group.width), *rounds])[:width]

    return drawn


def widen(
    spec: NetworkSpec,
    network: nn.Module,
    unit: str,
    width: int,
    *,
    sources: Sources | None = None,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[NetworkSpec, nn.Module]:
    """Widen one unit, see `carried`.

    Raises:
        UserError: the model cannot grow, or the unit cannot be widened so.
    """
    grown = with_width(spec, unit, width)
    return grown, carried(spec, network, grown, sources=sources, noise=noise, generator=generator)


def carried(
    spec: NetworkSpec,
    network: nn.Module,
    other: NetworkSpec,
    *,
    sources: Sources | None = None,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """The network of `other`, of other widths, with the channels of `network`; wider, it computes what that does.

    Args:
        network: built from `spec`; unchanged.
        sources: channels that are no source are left behind; by default each is copied as often as another.
        noise: breaks the symmetry between copies, which would otherwise stay equal; as a multiple of each weight's
            standard deviation, about 1e-3. 0 is exact.

    Returns:
        the network, of the same precision, on the same device, in the same mode.

    Raises:
        UserError: a group of channels is in one of the networks only, or there is nothing to copy.
    """
    generator = generator or torch.Generator().manual_seed(0)
    changes = changes_between(spec, other, sources or random_sources(generator))
    with tentatively():
        grown = other.build()  # not on torch's meta device, where buffers that no state holds would stay
    empty = grown.state_dict()
    state = {
        name: resized(tensor, empty[name].shape, changes.get(name, ()), noise, generator)
        for name, tensor in network.state_dict().items()
    }
    grown.load_state_dict(state, assign=True)
    return grown.train(network.training)


Change = tuple[Place, Place, torch.Tensor]
"""Where a group lay, where it lies now, and the old channel of each new one."""


def changes_between(spec: NetworkSpec, other: NetworkSpec, sources: Sources) -> dict[str, list[Change]]:
    """What changes in each tensor of the network from one spec to another of other widths, by the tensor's name.

    Raises:
        UserError: a group of channels is in one of the networks only, or its channels cannot be copied.
    """
    before, after = ({group.name: group for group in groups_of(each)} for each in (spec, other))
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())[0]
        raise UserError(f"the channels of {odd!r} are in one of the two networks only, so that none can be copied")
    changed = [group for name, group in before.items() if group.width != after[name].width]
    for group in changed:
        if group.fixed is not None:
            raise UserError(f"the channels of {group.name!r} cannot be copied: {group.fixed}")
    chosen = {group.name: sources(group, after[group.name].width) for group in changed}
    changes: dict[str, list[Change]] = {}
    for name, channels in chosen.items():
        for old, new in zip(before[name].places, after[name].places, strict=True):
            changes.setdefault(old.tensor, []).append((old, new, channels))
    return changes


def resized(
    tensor: torch.Tensor, shape: torch.Size, changes: Iterable[Change], noise: float, generator: torch.Generator
) -> torch.Tensor:
    """A weight, bias or statistic along each dimension in which groups of channels have changed."""
    grown = tensor
    for dimension, here, source, copies in by_dimension(tensor.shape, shape, changes):
        grown = grown.index_select(dimension, source.to(grown.device))
        if is_read(here):
            grown = grown / copies.to(grown)
        if noise and grown.ndim > 1:
            samples = torch.randn(grown.shape, generator=generator) * _is_repeated(source).reshape(copies.shape)
            grown = grown + noise * tensor.std(correction=0) * samples.to(grown)
    return grown


def by_dimension(
    shape: torch.Size, grown: torch.Size, changes: Iterable[Change]
) -> Iterator[tuple[int, list[Change], torch.Tensor, torch.Tensor]]:
    """Each dimension in which groups have changed, their changes, and as of `elements` the old index of each new one.

    Copies are counted in a tensor that spreads along that dimension.
    """
    for dimension in sorted({old.dimension for old, _new, _channels in changes}):
        here = [change for change in changes if change[0].dimension == dimension]
        source, copies = elements(shape[dimension], grown[dimension], here)
        yield dimension, here, source, copies.reshape([-1 if at == dimension else 1 for at in range(len(shape))])


def is_read(changes: Iterable[Change]) -> bool:
    """Whether the weights in which these changes lie read the channels."""
    return any(old.reads for old, _new, _channels in changes)


def elements(size: int, grown: int, changes: Sequence[Change]) -> tuple[torch.Tensor, torch.Tensor]:
    """The old index of each new one along a dimension, and how many copies of it there are, both int64 [grown]."""
    source, copies = torch.empty(grown, dtype=torch.int64), torch.ones(grown, dtype=torch.int64)
    kept, free = torch.ones(size, dtype=torch.bool), torch.ones(grown, dtype=torch.bool)
    for old, new, channels in changes:
        kept[old.positions], free[new.positions] = False, False
        source[new.positions] = old.positions[channels]
        copies[new.positions] = channels.bincount()[channels].unsqueeze(1)
    source[free] = torch.arange(size)[kept]
    return source, copies


def _is_repeated(source: torch.Tensor) -> torch.Tensor:
    """True for each element whose value occurs before it, bool."""
    return source.unsqueeze(1).eq(source).tril(diagonal=-1).any(dim=1)
