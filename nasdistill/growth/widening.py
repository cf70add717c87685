"""Net2Wider: a wider network that computes the same function.

Every channel of a grown unit copies one of its old channels, the same one in every tensor of the unit. Weights that
read channels are divided by the number of copies, so that sums are unchanged.

Source: Chen et al. 2016, Net2Net: accelerating learning via knowledge transfer, section 2.2 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nasdistill.errors import UserError, written_at
from nasdistill.growth.plan import growable, with_width
from nasdistill.models.base import NetworkSpec
from nasdistill.models.growable import Slot
from nasdistill.models.scalable import Unit


def choose_sources(unit: Unit, width: int, generator: torch.Generator) -> torch.Tensor:
    """Which old channel each of `width` channels copies, int64 [width]; every old channel stays.

    Each part is copied from itself, and where several grow from the same size to the same size, they grow alike.

    Raises:
        UserError: the unit has fewer channels than parts, so one has none to copy; or it would shrink.
    """
    if unit.width < unit.parts or width < unit.width:
        raise UserError(f"{unit.name!r} of {unit.width} channels cannot be widened to {width}")
    copies: dict[tuple[int, int], torch.Tensor] = {}
    sources = []
    for number in range(unit.parts):
        old, new = unit.part(number), unit.part(number, width)
        sizes = len(old), len(new)
        if sizes not in copies:
            copies[sizes] = _copies(*sizes, generator)
        sources.append(old.start + copies[sizes])
    return torch.cat(sources)


def _copies(size: int, grown: int, generator: torch.Generator) -> torch.Tensor:
    """All of `size`, then random ones up to `grown`; none is sampled again before all others are."""
    rounds = [torch.randperm(size, generator=generator) for _ in range(-(-grown // size) - 1)]
    return torch.cat([torch.arange(size), *rounds])[:grown]


def source_of_elements(slot: Slot, size: int, unit: Unit, sources: torch.Tensor) -> torch.Tensor:
    """The old index that each new index along a slot's dimension copies.

    Args:
        size: the dimension's present size.
        sources: the old channel that each new channel of the unit copies.
    """
    old, new = unit.part(slot.part), unit.part(slot.part, len(sources))
    channels = sources[new.start : new.stop] - old.start
    block = (channels[:, None] * slot.repeat + torch.arange(slot.repeat)).flatten()
    pieces, position = [], 0
    for offset in slot.offsets:
        pieces += [torch.arange(position, offset), offset + block]
        position = offset + len(old) * slot.repeat
    return torch.cat([*pieces, torch.arange(position, size)])


def widen_tensor(
    tensor: torch.Tensor,
    slots: Sequence[Slot],
    unit: Unit,
    sources: torch.Tensor,
    noise: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Grow a weight, bias or statistic along each dimension in which the unit lies.

    Args:
        noise: standard deviation, as a multiple of the tensor's, of what is added to the copies in a weight.
    """
    grown = tensor
    for slot in slots:
        size = tensor.shape[slot.dimension]
        source = source_of_elements(slot, size, unit, sources)
        if source.equal(torch.arange(size)):  # a part that does not grow
            continue
        grown = grown.index_select(slot.dimension, source.to(grown.device))
        along = [-1 if axis == slot.dimension else 1 for axis in range(grown.ndim)]
        if slot.reads:
            grown = grown / source.bincount()[source].reshape(along).to(grown)
        if noise and grown.ndim > 1:
            samples = torch.randn(grown.shape, generator=generator) * _is_repeated(source).reshape(along)
            grown = grown + noise * tensor.std(correction=0) * samples.to(grown)
    return grown


def _is_repeated(source: torch.Tensor) -> torch.Tensor:
    """True for each element whose value occurs before it, bool."""
    return source.unsqueeze(1).eq(source).tril(diagonal=-1).any(dim=1)


def widen(
    spec: NetworkSpec,
    network: nn.Module,
    unit: str,
    width: int,
    *,
    sources: torch.Tensor | None = None,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[NetworkSpec, nn.Module]:
    """Widen one unit; without noise the grown network computes what `network` does.

    Args:
        network: built from `spec`; unchanged.
        unit: its name.
        sources: the old channel that each new one copies, int64 [width]; chosen at random if not given. Channels
            that are no source are removed.
        noise: breaks the symmetry between copies, which would otherwise stay equal; as a multiple of each
            weight's standard deviation, about 1e-3. 0 is exact.

    Returns:
        the grown spec and network, of the same precision, on the same device, in the same mode.

    Raises:
        UserError: the model cannot grow, the unit cannot be widened so, or the model's slots do not match its
            network.
    """
    generator = generator or torch.Generator().manual_seed(0)
    model = growable(spec)
    old = next(each for each in model.units() if each.name == unit)
    if sources is None:
        sources = choose_sources(old, width, generator)
    slots: dict[str, list[Slot]] = {}
    for slot in model.slots(old, spec.reads, spec.classes):
        slots.setdefault(slot.tensor, []).append(slot)
    grown_spec = with_width(spec, unit, width)
    with torch.device("meta"):
        grown = grown_spec.build()
    state = {
        name: widen_tensor(tensor, slots.get(name, ()), old, sources, noise, generator)
        for name, tensor in network.state_dict().items()
    }
    for name, empty in grown.state_dict().items():
        if state[name].shape != empty.shape:
            raise UserError(
                f"with {width} channels of {unit!r}, {name!r} is {tuple(empty.shape)}, but by the slots of "
                f"{type(model).__name__} it is {tuple(state[name].shape)} ({written_at(type(model))})"
            )
    grown.load_state_dict(state, assign=True)
    return grown_spec, grown.train(network.training)
