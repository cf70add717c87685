"""The edges that leave a state: all operations on all channels, mixed by their weights, and computed together.

Edge by edge that is thousands of small kernels. The same sums come out of far fewer, larger ones, because all
edges that leave one state have the same input, and these are identities, not approximations:

- pools and their batch norms are computed once per state, and weighted for all edges;
- the separable convolutions of all E edges are computed together, image by image, see
  `nasdistill.depthwise.fused`; else by one depthwise convolution of E * C groups and a pointwise one of E groups;
- a convolution of all channels makes the channels of all edges at once;
- batch norm without scale, times p_k, is batch norm with scale p_k.

Where a mixture says which operations were drawn, only those are computed, each on its edges alone; so it is where edges
offer different operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.depthwise.fused import can_fuse, sum_of_branches
from nasdistill.depthwise.separable import Branch, Layer, Term, layer_by_layer, mixed
from nasdistill.errors import UserError, written_at
from nasdistill.models.layers import Depthwise, closing_gaps, copy_into, rectified_halves, strided
from nasdistill.models.operations import OPERATIONS, Operation
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.spaces.cells import NONE, SKIP, CellSpace


def normalise(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Batch norm of [N, C, H, W] with the statistics of this batch, times `scale` [C]."""
    return closing_gaps(functional.batch_norm(x, None, None, scale, None, training=True))


def of_edges(weight: torch.Tensor, edges: int, drawn: Sequence[int] | None) -> torch.Tensor:
    """The weights of the edges that were drawn; of all, where none were."""
    return weight if drawn is None else weight.reshape(edges, -1, *weight.shape[1:])[list(drawn)].flatten(0, 1)


def added(state: torch.Tensor, branches: Sequence[Branch], terms: Sequence[Term] = ()) -> torch.Tensor:
    """What separable convolutions make of a state [N, C, H, W] on all edges, and terms, added: [N, E * C, H', W']."""
    if can_fuse(state, branches):
        return sum_of_branches(state, branches, terms)[0]
    return closing_gaps(layer_by_layer(state, branches, terms))


def refuse_other_shapes(operation: Operation, channels: int, stride: int) -> None:
    """Refuse an operation whose outputs cannot be added to those of others.

    Raises:
        UserError: says what they are, and what they must be.
    """
    with torch.device("meta"):
        outputs = operation.build(channels, stride, affine=False)(torch.empty(2, channels, 8, 8))
    wanted = (2, channels, 8 // stride, 8 // stride)
    if tuple(outputs.shape) != wanted:
        raise UserError(
            f"the operation {operation.registered_name!r} ({written_at(type(operation))}) cannot be mixed with others: "
            f"at stride {stride} it makes {list(outputs.shape)} of a state of {[2, channels, 8, 8]}, not {list(wanted)}"
        )


class OnEdges(nn.Module):
    """One operation with weights of its own on each of the E edges that leave a state."""

    def forward(self, state: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None) -> torch.Tensor:
        """The operation's term on every edge.

        Args:
            state: [N, C, H, W].
            weights: of this operation on each edge, [E].
            drawn: which edges these are, where they are not all.

        Returns:
            [N, E * C, H', W'], the edges beside each other.
        """
        raise NotImplementedError(type(self).__name__)

    def weights_on(self, edge: int) -> list[torch.Tensor]:
        """Those of one edge, as the convolutions of the operation have them, in their order; it may have none."""
        return []

    def hand_over(self, edge: int, operation: nn.Module) -> None:
        """Copy the weights of one edge into the operation as a network has it."""
        convolutions = [module for module in operation.modules() if isinstance(module, nn.Conv2d)]
        for convolution, weight in zip(convolutions, self.weights_on(edge), strict=True):
            convolution.weight.copy_(weight)


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

    def forward(self, state: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None) -> torch.Tensor:
        return added(state, [self.layers(weights, drawn)])

    def layers(self, weights: torch.Tensor, drawn: Sequence[int] | None = None) -> list[Layer]:
        """The layers of the edges that were drawn, the last of them weighted."""
        layers = [
            Layer(
                of_edges(cast(torch.Tensor, depthwise.weight), self.edges, drawn),
                of_edges(cast(torch.Tensor, pointwise.weight), self.edges, drawn),
                *(cast(Depthwise, depthwise).stride[0], cast(Depthwise, depthwise).dilation[0]),
            )
            for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True)
        ]
        return [*layers[:-1], layers[-1]._replace(scale=weights.repeat_interleave(self.channels))]

    def weights_on(self, edge: int) -> list[torch.Tensor]:
        pairs = zip(self.depthwise, self.pointwise, strict=True)
        weights = [cast(torch.Tensor, module.weight) for pair in pairs for module in pair]
        return [of_edges(weight, self.edges, [edge]) for weight in weights]


class FullConvolution(OnEdges):
    """ReLU and one convolution of all channels. What the edges read is the same, so that one convolution makes all.

    Edge e owns the channels e * C to (e + 1) * C of what it makes.
    """

    def __init__(self, channels: int, edges: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.edges = edges
        self.stride = stride
        self.convolution = nn.Conv2d(channels, edges * channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, state: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None) -> torch.Tensor:
        weight = of_edges(self.convolution.weight, self.edges, drawn)
        padding, stride = self.convolution.padding[0], self.stride
        if padding == 0:  # the stride comes first, as in `FactorizedReduce`
            state, stride = strided(state, stride), 1
        outputs = functional.conv2d(functional.relu(state), weight, stride=stride, padding=padding)
        return normalise(outputs, weights.repeat_interleave(self.channels))

    def weights_on(self, edge: int) -> list[torch.Tensor]:
        return [of_edges(self.convolution.weight, self.edges, [edge])]


class Reductions(OnEdges):
    """The skip connections of stride 2: factorised reduces, whose two convolutions per edge are groups of one.

    Edge e owns the channels e * C to (e + 1) * C; the first half of them sees the even pixels, the other half the odd.
    """

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.channels = channels
        self.edges = edges
        self.pointwise = nn.Conv2d(2 * edges * channels, edges * channels, 1, groups=2 * edges, bias=False)

    def forward(self, state: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None) -> torch.Tensor:
        pixels = torch.cat([*rectified_halves(state)] * len(weights), dim=1)
        weight = of_edges(self.pointwise.weight, self.edges, drawn)
        outputs = functional.conv2d(pixels, weight, groups=2 * len(weights))
        return normalise(outputs, weights.repeat_interleave(self.channels))

    def weights_on(self, edge: int) -> list[torch.Tensor]:
        return list(of_edges(self.pointwise.weight, self.edges, [edge]).chunk(2))


class Separate(OnEdges):
    """Any other operation, such as a plugin's: one module per edge."""

    def __init__(self, operation: Operation, channels: int, edges: int, stride: int) -> None:
        super().__init__()
        refuse_other_shapes(operation, channels, stride)
        self.operations = nn.ModuleList(operation.build(channels, stride, affine=False) for _ in range(edges))

    def forward(self, state: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None) -> torch.Tensor:
        operations = self.operations if drawn is None else [self.operations[edge] for edge in drawn]
        terms = [weight * operation(state) for weight, operation in zip(weights, operations, strict=True)]
        return torch.cat(terms, dim=1)

    def hand_over(self, edge: int, operation: nn.Module) -> None:
        copy_into(operation, self.operations[edge])


# By operation: its kernel, its dilation, and how many times it applies its convolutions.
CONVOLUTIONS = {
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}
# By operation its kernel.
FULL_CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
POOLS = ("max_pool_3x3", "avg_pool_3x3")


class Fan(nn.Module):
    """All edges that leave one state, with all operations but `none`, whose share of the softmax is all that it does.

    Attributes:
        edges: how many there are.
        places: by operation the edges that offer it, each with its column there.
        shared: by name, the operations without weights, which are the same on all edges.
        separate: by name, the others, on the edges that offer them.
    """

    def __init__(self, space: CellSpace, channels: int, edges: Sequence[Sequence[str]], stride: int) -> None:
        super().__init__()
        self.edges = len(edges)
        self.alike = all(tuple(names) == tuple(edges[0]) for names in edges)
        self.stride = stride
        self.normalised = POOLS if space.normalises_pools else ()
        self.places = {
            name: [(edge, names.index(name)) for edge, names in enumerate(edges) if name in names]
            for name in space.operations
            if any(name in names for names in edges)
        }
        self.shared = nn.ModuleDict()
        self.separate = nn.ModuleDict()
        for name, places in self.places.items():
            operation: Operation = OPERATIONS.get(name)()
            offering = len(places)
            if name in CONVOLUTIONS:
                kernel, dilation, repeats = CONVOLUTIONS[name]
                self.separate[name] = Convolutions(channels, offering, kernel, stride, dilation, repeats)
            elif name in FULL_CONVOLUTIONS:
                self.separate[name] = FullConvolution(channels, offering, FULL_CONVOLUTIONS[name], stride)
            elif name in POOLS:
                self.shared[name] = operation.build(channels, stride, affine=False)
            elif name == SKIP and stride == 1:
                self.shared[name] = nn.Identity()
            elif name == SKIP and channels % 2 == 0:
                self.separate[name] = Reductions(channels, offering)
            elif name != NONE:
                self.separate[name] = Separate(operation, channels, offering, stride)

    def forward(self, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """From a state [N, C, H, W] to all edges' mixtures, [N, E * C, H', W']."""
        if mixture.computed is not None or not self.alike:
            return self._drawn(state, mixture.weights, mixture.computed)
        columns = {name: mixture.weights[:, places[0][1]] for name, places in self.places.items()}
        terms = [self._term(name, state, columns[name]) for name in self.shared]
        branches, totals = [], []
        for name, operation in self.separate.items():
            weights = columns[name]
            if isinstance(operation, Convolutions):
                branches.append(operation.layers(weights))
            else:
                totals.append(operation(state, weights))
        if branches:
            totals.append(added(state, branches, terms))
        elif terms:
            totals.append(mixed(terms))
        return cast(torch.Tensor, sum(totals[1:], totals[0]))

    def hand_over(self, edge: int, name: str, operation: nn.Module) -> None:
        """Copy the weights of an edge's operation into the same one of a network, where it has any."""
        if name in self.separate:
            offering = [each for each, _column in self.places[name]]
            cast(OnEdges, self.separate[name]).hand_over(offering.index(edge), operation)

    def _term(self, name: str, state: torch.Tensor, weights: torch.Tensor) -> Term:
        return Term(self.shared[name](state), weights, normalised=name in self.normalised)

    def _drawn(
        self, state: torch.Tensor, weights: torch.Tensor, computed: Sequence[Sequence[bool]] | None
    ) -> torch.Tensor:
        terms: list[list[torch.Tensor]] = [[] for _ in range(self.edges)]
        for name, places in self.places.items():
            drawn = [at for at, (edge, column) in enumerate(places) if computed is None or computed[edge][column]]
            if not drawn or name == NONE:
                continue
            edges, columns = map(list, zip(*(places[at] for at in drawn), strict=True))
            of_these = weights[edges, columns]
            if name in self.separate:
                outputs = self.separate[name](state, of_these, drawn)
            else:
                outputs = mixed([self._term(name, state, of_these)])
            for edge, term in zip(edges, outputs.chunk(len(edges), dim=1), strict=True):
                terms[edge].append(term)
        nothing = torch.zeros_like(state[:, :, :: self.stride, :: self.stride])
        return torch.cat([sum(of_edge[1:], of_edge[0]) if of_edge else nothing for of_edge in terms], dim=1)


class DroppedSkips(OnEdges):
    """The skip connections of stride 1, each with dropout of its own, whose `rate` is set before each pass."""

    rate = 0.0

    def forward(self, state: torch.Tensor, weights: torch.Tensor, drawn: Sequence[int] | None = None) -> torch.Tensor:
        return functional.dropout(torch.cat([weight * state for weight in weights], dim=1), self.rate)


class SkipDropoutFan(Fan):
    """A fan whose skip connections are dropped at random.

    Args:
        rate: with which probability at a moment.
    """

    def __init__(
        self,
        space: CellSpace,
        channels: int,
        edges: Sequence[Sequence[str]],
        stride: int,
        rate: Callable[[Moment], float],
    ) -> None:
        super().__init__(space, channels, edges, stride)
        self.rate = rate
        if SKIP in self.shared:
            del self.shared[SKIP]
            self.separate[SKIP] = DroppedSkips()

    def forward(self, state: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        for operation in self.separate.values():
            if isinstance(operation, DroppedSkips):
                operation.rate = self.rate(mixture.moment)
        return super().forward(state, mixture)


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
