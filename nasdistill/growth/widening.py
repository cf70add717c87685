"""Net2Wider: a wider network that computes the same function.

Every channel of a grown cell is a copy of one of its old channels. Within a cell channels are tied: the nodes are sums,
skip connections and pools pass channels on, so every producer must copy the same sources. What reads copies divides its
weights on them by the number of copies, so that the sum is what it was.

Source: Chen et al. 2016, Net2Net: accelerating learning via knowledge transfer, section 2.2 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.growth.plan import growable, with_width
from nasdistill.models.base import NetworkSpec
from nasdistill.models.darts import Cell

Sources = Mapping[tuple[int, int], torch.Tensor]
"""Old and new size of a dimension to the old index that each new index copies."""


def choose_sources(width: int, grown: int, generator: torch.Generator) -> torch.Tensor:
    """Which old channel each of `grown` channels copies, int64 [grown]; every old channel stays.

    A factorised reduce makes the first half of the channels by one convolution and the second half by another, so each
    half is copied from itself. Where both halves grow from the same size to the same size, they grow alike.

    Raises:
        UserError: the cell has one channel, so a half of it has none to copy; or it would shrink.
    """
    if width < 2 or grown < width:
        raise UserError(f"a cell of {width} channels cannot be widened to {grown}")
    halves = ((width // 2, grown // 2), (width - width // 2, grown - grown // 2))
    first = _copies(*halves[0], generator)
    second = first if halves[0] == halves[1] else _copies(*halves[1], generator)
    return torch.cat([first, width // 2 + second])


def _copies(size: int, grown: int, generator: torch.Generator) -> torch.Tensor:
    """All of `size`, then random ones until there are `grown`; none is picked again before all others are."""
    rounds = [torch.randperm(size, generator=generator) for _ in range(-(-grown // size) - 1)]
    return torch.cat([torch.arange(size), *rounds])[:grown]


def sources_of_dimensions(sources: torch.Tensor, width: int, nodes: int) -> Sources:
    """What the sources of a cell's channels mean for every dimension that depends on its width.

    Three kinds do: the cell's own channels, the halves that a factorised reduce makes, and the cell's output, in which
    the channels of each node lie side by side.
    """
    grown = len(sources)
    output = torch.cat([sources + node * width for node in range(nodes)])
    return {
        (width // 2, grown // 2): sources[: grown // 2],
        (width - width // 2, grown - grown // 2): sources[grown // 2 :] - width // 2,
        (width, grown): sources,
        (nodes * width, nodes * grown): output,
    }


def widen_tensor(
    tensor: torch.Tensor, shape: torch.Size, sources: Sources, noise: float, generator: torch.Generator
) -> torch.Tensor:
    """Grow a weight, bias or statistic to `shape`, copying along each dimension that grew.

    The second dimension of a weight is its input, and is divided by the number of copies that it reads. A depthwise
    filter has no such dimension that grows, so it is copied as it is.

    Args:
        noise: standard deviation, as a multiple of the tensor's, of what is added to the copies in a weight.

    Raises:
        UserError: a dimension grew in a way that the width does not explain.
    """
    grown = tensor
    for dimension, sizes in enumerate(zip(tensor.shape, shape, strict=True)):
        if sizes[0] == sizes[1]:
            continue
        if sizes not in sources:
            raise UserError(f"a dimension of {sizes[0]} that becomes {sizes[1]} cannot be widened by copying channels")
        source = sources[sizes]
        grown = grown.index_select(dimension, source.to(grown.device))
        along = [-1 if axis == dimension else 1 for axis in range(grown.ndim)]
        if dimension == 1:
            grown = grown / source.bincount()[source].reshape(along).to(grown)
        if noise and grown.ndim > 1:
            draws = torch.randn(grown.shape, generator=generator) * _is_repeated(source).reshape(along)
            grown = grown + noise * tensor.std(correction=0) * draws.to(grown)
    return grown


def _is_repeated(source: torch.Tensor) -> torch.Tensor:
    """Whether the value of each element stands before it already, bool."""
    return source.unsqueeze(1).eq(source).tril(diagonal=-1).any(dim=1)


def widen(
    spec: NetworkSpec,
    network: nn.Module,
    cell: int,
    width: int,
    *,
    sources: torch.Tensor | None = None,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[NetworkSpec, nn.Module]:
    """Widen one cell; without noise the grown network computes what `network` does.

    The grown network is built from its spec, and whatever differs in shape is what depends on the cell's width: the
    cell itself, the two cells after it, the classifier and the auxiliary head. So an operation of a plugin is widened
    too, if its sizes are its channels.

    Args:
        network: built from `spec`; it is left as it was.
        sources: the old channel that each new one copies, int64 [width]; chosen at random if not given.
        noise: breaks the symmetry between copies, which would otherwise learn the same for ever; as a multiple of each
            weight's standard deviation, about 1e-3. 0 is exact.

    Returns:
        the grown spec and network, of the same precision, on the same device, in the same mode.

    Raises:
        UserError: the model has no cells of their own width, or the cell cannot be widened so.
    """
    generator = generator or torch.Generator().manual_seed(0)
    widths = growable(spec).cell_widths()
    if sources is None:
        sources = choose_sources(widths[cell], width, generator)
    grown_spec = with_width(spec, cell, width)
    with torch.device("meta"):
        grown = grown_spec.build()
    nodes = len(cast(Cell, network.get_submodule(f"cells.{cell}")).edges)
    table = sources_of_dimensions(sources, widths[cell], nodes)
    state = network.state_dict()
    grown.load_state_dict(
        {
            name: widen_tensor(state[name], empty.shape, table, noise, generator)
            for name, empty in grown.state_dict().items()
        },
        assign=True,
    )
    return grown_spec, grown.train(network.training)
