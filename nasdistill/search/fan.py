"""The edges that leave a state: all operations on all channels, mixed by their weights, and computed together.

Edge by edge that is thousands of small kernels. The same sums come out of far fewer, larger ones, because all
edges that leave one state have the same input, and these are identities, not approximations:

- ReLU, pools, their batch norms and the identity are computed once per state; weighting them for all edges is one 1x1
  convolution, whose kernel is the Kronecker product of the weights and an identity;
- the convolutions of all E edges are one: the state is repeated E times along its channels, so that a depthwise
  convolution has E * C groups and a pointwise one E groups, each seeing its own edge only;
- batch norm without scale, times p_k, is batch norm with scale p_k.

Where a mixture says which operations were drawn, only those are computed, each on its edges alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.models.layers import Depthwise, closing_gaps
from nasdistill.models.operations import OPERATIONS, Operation
from nasdistill.search.mixture import Mixture
from nasdistill.search.spaces.cells import NONE, SKIP, CellSpace


def normalise(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Batch norm of [N, C, H, W] with the statistics of this batch, times `scale` [C]."""
    return closing_gaps(functional.batch_norm(x, None, None, scale, None, training=True))


def mix(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """E weighted sums of K features, as one 1x1 convolution with the kernel weights (x) identity.

    Args:
        features: beside each other, [N, K * C, H, W].
        weights: [E, K].

    Returns:
        beside each other, [N, E * C, H, W].
    """
    channels = features.shape[1] // weights.shape[1]
    identity = torch.eye(channels, dtype=weights.dtype, device=weights.device)
    return functional.conv2d(features, torch.kron(weights, identity)[:, :, None, None])


def convolve(convolution: nn.Module, x: torch.Tensor, drawn: Sequence[int] | None, edges: int) -> torch.Tensor:
    """A convolution whose output channels are one part per edge, no group in two of them; or the drawn parts of it."""
    if drawn is None:
        return cast(torch.Tensor, convolution(x))
    assert isinstance(convolution, nn.Conv2d)
    whole = convolution.weight
    weight = whole.reshape(edges, -1, *whole.shape[1:])[list(drawn)].flatten(0, 1)
    groups = convolution.groups * len(drawn) // edges
    if isinstance(convolution, Depthwise):
        return convolution.convolve(x, weight)
    return functional.conv2d(x, weight, groups=groups)


class OnEdges(nn.Module):
    """One operation with weights of its own on each of the E edges that leave a state."""

    def forward(
        self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None
    ) -> torch.Tensor:
        """The operation's term on every edge.

        Args:
            state: [N, C, H, W].
            repeated: its ReLU, once per edge, [N, E * C, H, W].
            weights: of this operation on each edge, [E].
            drawn: which edges these are, where they are not all.

        Returns:
            [N, E * C, H', W'], the edges beside each other.
        """
        raise NotImplementedError(type(self).__name__)


class Convolutions(OnEdges):
    """Depthwise and pointwise convolutions, `repeats` times, as in separable and dilated convolutions.

    Edge e owns the channels e * C to (e + 1) * C.
    """

    def __init__(self, channels: int, edges: int, kernel: int, stride: int, dilation: int, repeats: int) -> None:
        super().__init__()
        width = channels * edges
        self.channels = channels
        self.edges = edges
        self.depthwise = nn.ModuleList(
            Depthwise(width, kernel, stride if turn == 0 else 1, dilation) for turn in range(repeats)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1, groups=edges, bias=False) for _ in range(repeats))

    def forward(
        self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None
    ) -> torch.Tensor:
        x = repeated
        for turn, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise, strict=True)):
            if turn > 0:
                x = functional.relu(normalise(x))
            x = convolve(pointwise, convolve(depthwise, x, drawn, self.edges), drawn, self.edges)
        return normalise(x, weights.repeat_interleave(self.channels))


class Reductions(OnEdges):
    """The skip connections of stride 2: factorised reduces, whose two convolutions per edge are groups of one.

    Edge e owns the channels e * C to (e + 1) * C; the first half of them sees the even pixels, the other half the odd.
    """

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.channels = channels
        self.edges = edges
        self.pointwise = nn.Conv2d(2 * edges * channels, edges * channels, 1, groups=2 * edges, bias=False)

    def forward(
        self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None
    ) -> torch.Tensor:
        x = repeated[:, : self.channels]
        x = functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        pixels = torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]] * len(weights), dim=1)
        outputs = convolve(self.pointwise, pixels, drawn, self.edges)
        return normalise(outputs, weights.repeat_interleave(self.channels))


class Separate(OnEdges):
    """Any other operation, such as a plugin's: one module per edge."""

    def __init__(self, operation: Operation, channels: int, edges: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation.build(channels, stride, affine=False) for _ in range(edges))

    def forward(
        self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None
    ) -> torch.Tensor:
        operations = self.operations if drawn is None else [self.operations[edge] for edge in drawn]
        terms = [weight * operation(state) for weight, operation in zip(weights, operations, strict=True)]
        return torch.cat(terms, dim=1)


class Pool(nn.Module):
    """A pool and a batch norm."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return normalise(self.pool(x))


# By operation: its kernel, its dilation, and how many times it applies its convolutions.
CONVOLUTIONS = {
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}
POOLS = ("max_pool_3x3", "avg_pool_3x3")


class Fan(nn.Module):
    """All edges that leave one state, with all operations but `none`, whose share of the softmax is all that it does.

    Attributes:
        shared: by name, the operations without weights, which are the same on all edges.
        separate: by name, the others.
    """

    def __init__(self, space: CellSpace, channels: int, edges: int, stride: int) -> None:
        super().__init__()
        self.edges = edges
        self.stride = stride
        self.column = {name: column for column, name in enumerate(space.operations)}
        self.shared = nn.ModuleDict()
        self.separate = nn.ModuleDict()
        for name in space.operations:
            operation: Operation = OPERATIONS.get(name)()
            if name in CONVOLUTIONS:
                kernel, dilation, repeats = CONVOLUTIONS[name]
                self.separate[name] = Convolutions(channels, edges, kernel, stride, dilation, repeats)
            elif name in POOLS:
                self.shared[name] = Pool(operation.build(channels, stride, affine=False))
            elif name == SKIP and stride == 1:
                self.shared[name] = nn.Identity()
            elif name == SKIP and channels % 2 == 0:
                self.separate[name] = Reductions(channels, edges)
            elif name != NONE:
                self.separate[name] = Separate(operation, channels, edges, stride)

    def forward(self, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """From a state [N, C, H, W] to all edges' mixtures, [N, E * C, H', W']."""
        if mixture.computed is not None:
            return self._drawn(state, mixture.weights, mixture.computed)
        columns = mixture.weights.unbind(1)
        repeated = torch.cat([functional.relu(state)] * self.edges, dim=1)
        terms = [operation(state, repeated, columns[self.column[name]]) for name, operation in self.separate.items()]
        if self.shared:
            features = torch.cat([operation(state) for operation in self.shared.values()], dim=1)
            shares = torch.stack([columns[self.column[name]] for name in self.shared], dim=1)
            terms.append(mix(features, shares))
        return cast(torch.Tensor, sum(terms[1:], terms[0]))

    def _drawn(self, state: torch.Tensor, weights: torch.Tensor, computed: Sequence[Sequence[bool]]) -> torch.Tensor:
        positive = functional.relu(state)
        terms: list[list[torch.Tensor]] = [[] for _ in range(self.edges)]
        for name, column in self.column.items():
            drawn = [edge for edge, row in enumerate(computed) if row[column] and name != NONE]
            if not drawn:
                continue
            of_these = weights[drawn, column]
            if name in self.separate:
                outputs = self.separate[name](state, positive.repeat(1, len(drawn), 1, 1), of_these, drawn)
            else:
                outputs = mix(self.shared[name](state), of_these[:, None])
            for edge, term in zip(drawn, outputs.chunk(len(drawn), dim=1), strict=True):
                terms[edge].append(term)
        nothing = torch.zeros_like(state[:, :, :: self.stride, :: self.stride])
        return torch.cat([sum(of_edge[1:], of_edge[0]) if of_edge else nothing for of_edge in terms], dim=1)


class PartialFan(nn.Module):
    """One of `divisor` parts of the channels goes through the operations; the others pass by, or through a max pool."""

    def __init__(self, fan: Fan, divisor: int) -> None:
        super().__init__()
        self.fan = fan
        self.divisor = divisor

    def forward(self, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        first, *others = state.chunk(self.divisor, dim=1)
        if self.fan.stride > 1:
            others = [functional.max_pool2d(part, 2, ceil_mode=True) for part in others]
        passing = [part.repeat(1, self.fan.edges, 1, 1) for part in others]
        # The j-th channels of all parts lie beside each other: the published shuffle.
        return torch.stack([self.fan(first, mixture), *passing], dim=2).flatten(1, 2)
