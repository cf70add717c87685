"""The supernet of DARTS: one network that holds every candidate at once, mixed by weights that are learned.

An edge from state x to a node carries the mixture of all its operations,

    sum_k  p_k * op_k(x),    p = softmax(alpha of this edge),

and a node is the sum of its edges. Pools are followed by a batch norm; no batch norm learns a scale or a shift.

Computed edge by edge, that is thousands of small kernels. The same sums come out of far fewer, larger ones, because all
edges that leave one state have the same input, and these are identities, not approximations:

- ReLU, pools, their batch norms and the identity are computed once per state and weighted once per edge;
- the convolutions of all E edges are one: the state is repeated E times along its channels, so that a depthwise
  convolution has E * C groups and a pointwise one E groups, each seeing its own edge only;
- batch norm without scale, times p_k, is batch norm with scale p_k;
- the terms of all nodes that a state reaches lie beside each other, so adding a state to its nodes is one addition.

Source: Liu et al. 2019, DARTS, section 2.2 and the released code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.operations import OPERATIONS, Operation
from nasdistill.models.operations.convolutions import ReLUConvNorm
from nasdistill.models.operations.skip import FactorizedReduce
from nasdistill.search.spaces import NONE, SearchSpace

INITIAL_SPREAD = 1e-3
"""Standard deviation of the first alphas: small enough that all operations start about equal."""


def normalise(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Batch norm of [N, C, H, W] with the statistics of this batch, times `scale` [C]."""
    return functional.batch_norm(x, None, None, scale, None, training=True)


def weigh(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Copies of [N, C, H, W], one for each of the weights [E] and multiplied by it: [N, E * C, H, W]."""
    return (x.unsqueeze(1) * weights.view(1, -1, 1, 1, 1)).flatten(1, 2)


class Edges(nn.Module):
    """One operation on all E edges that leave a state."""

    def forward(self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The operation's term on every edge.

        Args:
            state: [N, C, H, W].
            repeated: its ReLU, once per edge, [N, E * C, H, W].
            weights: of this operation on each edge, [E].

        Returns:
            [N, E * C, H', W'], the edges beside each other.
        """
        raise NotImplementedError(type(self).__name__)


class Shared(Edges):
    """An operation without weights: the same on all edges."""

    def __init__(self, operation: nn.Module) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return weigh(self.operation(state), weights)


class Pool(nn.Module):
    """A pool and a batch norm."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return normalise(self.pool(x))


class Convolutions(Edges):
    """Depthwise and pointwise convolutions, `repeats` times, as in separable and dilated convolutions.

    Edge e owns the channels e * C to (e + 1) * C.
    """

    def __init__(self, channels: int, edges: int, kernel: int, stride: int, dilation: int, repeats: int) -> None:
        super().__init__()
        width = channels * edges
        padding = dilation * (kernel - 1) // 2
        self.channels = channels
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, kernel, stride if turn == 0 else 1, padding, dilation, groups=width, bias=False)
            for turn in range(repeats)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1, groups=edges, bias=False) for _ in range(repeats))

    def forward(self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        x = repeated
        for turn, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise, strict=True)):
            if turn > 0:
                x = functional.relu(normalise(x))
            x = pointwise(depthwise(x))
        return normalise(x, weights.repeat_interleave(self.channels))


class Reductions(Edges):
    """The skip connections of stride 2: factorised reduces, whose two convolutions serve all edges."""

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        half = channels // 2
        self.channels = channels
        self.edges = edges
        self.conv1 = nn.Conv2d(channels, edges * half, 1, stride=2, bias=False)
        self.conv2 = nn.Conv2d(channels, edges * (channels - half), 1, stride=2, bias=False)

    def forward(self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        x = repeated[:, : self.channels]
        shifted = functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        halves = [out.unflatten(1, (self.edges, -1)) for out in (self.conv1(x), self.conv2(shifted))]
        return normalise(torch.cat(halves, dim=2).flatten(1, 2), weights.repeat_interleave(self.channels))


class Separate(Edges):
    """Any other operation, such as a plugin's: one module per edge."""

    def __init__(self, operation: Operation, channels: int, edges: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation.build(channels, stride, affine=False) for _ in range(edges))

    def forward(self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        terms = [weight * operation(state) for weight, operation in zip(weights, self.operations, strict=True)]
        return torch.cat(terms, dim=1)


def _pool(name: str) -> Callable[[int, int, int], Edges]:
    return lambda channels, edges, stride: Shared(Pool(OPERATIONS.get(name)().build(channels, stride, affine=False)))


def _convolutions(kernel: int, dilation: int, repeats: int) -> Callable[[int, int, int], Edges]:
    return lambda channels, edges, stride: Convolutions(channels, edges, kernel, stride, dilation, repeats)


FUSED: dict[str, Callable[[int, int, int], Edges]] = {
    "max_pool_3x3": _pool("max_pool_3x3"),
    "avg_pool_3x3": _pool("avg_pool_3x3"),
    "skip_connect": lambda channels, edges, stride: (
        Shared(nn.Identity()) if stride == 1 else Reductions(channels, edges)
    ),
    "sep_conv_3x3": _convolutions(kernel=3, dilation=1, repeats=2),
    "sep_conv_5x5": _convolutions(kernel=5, dilation=1, repeats=2),
    "dil_conv_3x3": _convolutions(kernel=3, dilation=2, repeats=1),
    "dil_conv_5x5": _convolutions(kernel=5, dilation=2, repeats=1),
}
"""By operation: (channels, edges, stride) to the module that computes it on all edges of a state."""


class Fan(nn.Module):
    """All edges that leave one state, with all operations.

    Attributes:
        operations: by name, without `none`, whose share of the softmax is all that it contributes.
    """

    def __init__(self, space: SearchSpace, channels: int, edges: int, stride: int) -> None:
        super().__init__()
        self.edges = edges
        self.columns = [column for column, name in enumerate(space.operations) if name != NONE]
        self.operations = nn.ModuleDict()
        for name in space.operations:
            if name in FUSED:
                self.operations[name] = FUSED[name](channels, edges, stride)
            elif name != NONE:
                self.operations[name] = Separate(OPERATIONS.get(name)(), channels, edges, stride)

    def forward(self, state: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """From a state [N, C, H, W] and the weights [E, operations] to all edges' mixtures, [N, E * C, H', W']."""
        repeated = functional.relu(state).repeat(1, self.edges, 1, 1)
        columns = weights.unbind(1)
        terms = [
            operation(state, repeated, columns[column])
            for column, operation in zip(self.columns, self.operations.values(), strict=True)
        ]
        return cast(torch.Tensor, sum(terms[1:], terms[0]))


class MixedCell(nn.Module):
    """A cell with all edges and all operations.

    Attributes:
        fans: for each state that has edges to nodes, those edges.
    """

    def __init__(
        self, space: SearchSpace, channels: tuple[int, int], width: int, reduction: bool, after_reduction: bool
    ) -> None:
        super().__init__()
        before_last, last = channels
        self.width = width
        self.reduction = reduction
        self.preprocess0 = (FactorizedReduce if after_reduction else ReLUConvNorm)(before_last, width, affine=False)
        self.preprocess1 = ReLUConvNorm(last, width, affine=False)
        self.rows = [
            [row for row, (origin, _node) in enumerate(space.edges()) if origin == state]
            for state in range(space.nodes + 1)
        ]
        self.fans = nn.ModuleList(
            Fan(space, width, len(rows), stride=2 if reduction and state < 2 else 1)
            for state, rows in enumerate(self.rows)
        )

    def forward(self, before_last: torch.Tensor, last: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """From the outputs of the two cells before and the weights [edges, operations] to [N, nodes * width, H', W']."""
        first, *others = zip(self.fans, self.rows, strict=True)
        fan, rows = first
        # The sums of all nodes that are still incomplete, beside each other.
        pending = fan(self.preprocess0(before_last), weights[rows])
        state = self.preprocess1(last)
        nodes = []
        for fan, rows in others:
            pending = pending + fan(state, weights[rows])
            state, pending = pending.split([self.width, pending.shape[1] - self.width], dim=1)
            nodes.append(state)
        return torch.cat(nodes, dim=1)


class Supernet(nn.Module):
    """Stem, mixed cells, global average pool, classifier.

    Its batch norms know the present batch only, in evaluation mode too: nobody keeps these weights, and running
    statistics would mix in the batches at the shifted weights of a second-order search.

    Attributes:
        normal: alphas of the normal cells, [edges, operations].
        reduce: alphas of the reduction cells, [edges, operations].
    """

    def __init__(self, space: SearchSpace, shape: Shape, classes: int) -> None:
        super().__init__()
        stem = space.stem_multiplier * space.search_channels
        self.stem = nn.Sequential(nn.Conv2d(shape[0], stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        reductions = {space.search_cells // 3, 2 * space.search_cells // 3}
        width = space.search_channels
        channels = (stem, stem)
        self.cells = nn.ModuleList()
        for index in range(space.search_cells):
            width *= 2 if index in reductions else 1
            self.cells.append(MixedCell(space, channels, width, index in reductions, index - 1 in reductions))
            channels = (channels[1], space.nodes * width)
        self.classifier = nn.Linear(channels[1], classes)
        _forget_statistics(self)
        size = (len(space.edges()), len(space.operations))
        self.normal = nn.Parameter(INITIAL_SPREAD * torch.randn(size))
        self.reduce = nn.Parameter(INITIAL_SPREAD * torch.randn(size))

    def alphas(self) -> list[nn.Parameter]:
        """What the architecture step learns."""
        return [self.normal, self.reduce]

    def weights(self) -> list[nn.Parameter]:
        """What the weight step learns: everything else."""
        alphas = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]

    def mixture(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights of the operations in normal and in reduction cells, each [edges, operations]."""
        return self.normal.softmax(dim=1), self.reduce.softmax(dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        normal, reduce = self.mixture()
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, reduce if cell.reduction else normal)
        return cast(torch.Tensor, self.classifier(last.mean(dim=(2, 3))))


def _forget_statistics(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
