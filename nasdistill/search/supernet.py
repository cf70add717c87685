"""The supernet of DARTS: one network that holds every candidate at once, mixed by weights that are learned.

An edge from state x to a node carries the mixture of all its operations,

    sum_k  p_k * op_k(x),    p = softmax(alpha of this edge),

and a node is the sum of its edges. Pools are followed by a batch norm; no batch norm learns a scale or a shift.

Computed edge by edge, that is thousands of small kernels. The same sums come out of far fewer, larger ones, because all
edges that leave one state have the same input, and these are identities, not approximations:

- ReLU, pools, their batch norms and the identity are computed once per state; weighting them for all edges is one 1x1
  convolution, whose kernel is the Kronecker product of the weights and an identity;
- the convolutions of all E edges are one: the state is repeated E times along its channels, so that a depthwise
  convolution has E * C groups and a pointwise one E groups, each seeing its own edge only;
- batch norm without scale, times p_k, is batch norm with scale p_k;
- the terms of all nodes that a state reaches lie beside each other, so adding a state to its nodes is one addition.

Source: Liu et al. 2019, DARTS, section 2.2 and the released code.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.operations import OPERATIONS, Operation
from nasdistill.models.operations.convolutions import Depthwise, ReLUConvNorm
from nasdistill.models.operations.skip import FactorizedReduce
from nasdistill.search.spaces.cells import NONE, SKIP, CellSpace
from nasdistill.search.weight_sharing import WeightSharing

INITIAL_SPREAD = 1e-3
"""Standard deviation of the first alphas: small enough that all operations start about equal."""


def normalise(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Batch norm of [N, C, H, W] with the statistics of this batch, times `scale` [C]."""
    y = functional.batch_norm(x, None, None, scale, None, training=True)
    if y.requires_grad:
        # Slices of a concatenation's gradient have gaps, with which its backward pass is several times slower.
        y.register_hook(torch.clone)  # type: ignore[no-untyped-call]
    return y


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


class Edges(nn.Module):
    """One operation with weights of its own on each of the E edges that leave a state."""

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


class Convolutions(Edges):
    """Depthwise and pointwise convolutions, `repeats` times, as in separable and dilated convolutions.

    Edge e owns the channels e * C to (e + 1) * C.
    """

    def __init__(self, channels: int, edges: int, kernel: int, stride: int, dilation: int, repeats: int) -> None:
        super().__init__()
        width = channels * edges
        self.channels = channels
        self.depthwise = nn.ModuleList(
            Depthwise(width, kernel, stride if turn == 0 else 1, dilation) for turn in range(repeats)
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
    """The skip connections of stride 2: factorised reduces, whose two convolutions per edge are groups of one.

    Edge e owns the channels e * C to (e + 1) * C; the first half of them sees the even pixels, the other half the odd.
    """

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.channels = channels
        self.edges = edges
        self.pointwise = nn.Conv2d(2 * edges * channels, edges * channels, 1, groups=2 * edges, bias=False)

    def forward(self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        x = repeated[:, : self.channels]
        x = functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        pixels = torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]] * self.edges, dim=1)
        return normalise(self.pointwise(pixels), weights.repeat_interleave(self.channels))


class Separate(Edges):
    """Any other operation, such as a plugin's: one module per edge."""

    def __init__(self, operation: Operation, channels: int, edges: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation.build(channels, stride, affine=False) for _ in range(edges))

    def forward(self, state: torch.Tensor, repeated: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        terms = [weight * operation(state) for weight, operation in zip(weights, self.operations, strict=True)]
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

    def forward(self, state: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """From a state [N, C, H, W] and the weights [E, operations] to all edges' mixtures, [N, E * C, H', W']."""
        columns = weights.unbind(1)
        repeated = torch.cat([functional.relu(state)] * self.edges, dim=1)
        terms = [edges(state, repeated, columns[self.column[name]]) for name, edges in self.separate.items()]
        if self.shared:
            features = torch.cat([operation(state) for operation in self.shared.values()], dim=1)
            shares = torch.stack([columns[self.column[name]] for name in self.shared], dim=1)
            terms.append(mix(features, shares))
        return cast(torch.Tensor, sum(terms[1:], terms[0]))


class MixedCell(nn.Module):
    """A cell with all edges and all operations.

    Attributes:
        fans: for each state that has edges to nodes, those edges.
    """

    def __init__(
        self, space: CellSpace, channels: tuple[int, int], width: int, reduction: bool, after_reduction: bool
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
        """The nodes beside each other, [N, nodes * width, H', W'].

        Args:
            before_last, last: outputs of the two cells before.
            weights: of the operations on each edge, [edges, operations].
        """
        state = self.preprocess0(before_last)
        # The sums of all nodes that are still incomplete, beside each other.
        pending = self.fans[0](state, weights[self.rows[0]])
        state = self.preprocess1(last)
        nodes = []
        for fan, rows in zip(self.fans[1:], self.rows[1:], strict=True):
            pending = pending + fan(state, weights[rows])
            if pending.shape[1] > self.width:
                state, pending = pending.split([self.width, pending.shape[1] - self.width], dim=1)
                nodes.append(state)
        return torch.cat([*nodes, pending], dim=1)


class Supernet(WeightSharing):
    """Stem, mixed cells, global average pool, classifier.

    Its batch norms know the present batch only, in evaluation mode too: nobody keeps these weights, and running
    statistics would mix in the batches at the shifted weights of a second-order search.

    Attributes:
        normal: alphas of the normal cells, [edges, operations].
        reduce: alphas of the reduction cells, [edges, operations].
    """

    def __init__(self, space: CellSpace, shape: Shape, classes: int) -> None:
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
        return [self.normal, self.reduce]

    def mixture(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The present weights of the operations in normal and in reduction cells, each [edges, operations]."""
        return self.normal.detach().softmax(dim=1), self.reduce.detach().softmax(dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        normal, reduce = self.normal.softmax(dim=1), self.reduce.softmax(dim=1)
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, reduce if cell.reduction else normal)
        return cast(torch.Tensor, self.classifier(functional.avg_pool2d(last, last.shape[2:]).flatten(1)))


def _forget_statistics(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
