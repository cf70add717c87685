"""A supernet written edge by edge from the evaluation network's own operations, to compare the fused one with."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nasdistill.models.layers import FactorizedReduce, ReLUConvNorm
from nasdistill.models.operations import OPERATIONS
from nasdistill.search.fan import Convolutions, Fan, Reductions, Separate
from nasdistill.search.spaces.darts_cells import DartsSpace
from nasdistill.search.supernet import Supernet


class PlainEdge(nn.Module):
    def __init__(self, space: DartsSpace, channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleDict()
        for name in space.operations:
            operation = OPERATIONS.get(name)().build(channels, stride, affine=False)
            if "pool" in name:
                operation = nn.Sequential(operation, nn.BatchNorm2d(channels, affine=False))
            self.operations[name] = operation

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return sum(weight * operation(x) for weight, operation in zip(weights, self.operations.values(), strict=True))


class PlainCell(nn.Module):
    def __init__(self, space, channels, width, reduction, after_reduction) -> None:
        super().__init__()
        self.nodes = space.nodes
        self.reduction = reduction
        self.preprocess0 = (FactorizedReduce if after_reduction else ReLUConvNorm)(channels[0], width, affine=False)
        self.preprocess1 = ReLUConvNorm(channels[1], width, affine=False)
        self.edges = nn.ModuleList(
            PlainEdge(space, width, 2 if reduction and state < 2 else 1)
            for node in range(space.nodes)
            for state in range(node + 2)
        )

    def forward(self, before_last, last, weights):
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        row = 0
        for _node in range(self.nodes):
            total = 0
            for state in states:
                total = total + self.edges[row](state, weights[row])
                row += 1
            states.append(total)
        return torch.cat(states[2:], dim=1)


class PlainSupernet(nn.Module):
    """The same function as `Supernet`, as the paper writes it."""

    def __init__(self, space: DartsSpace, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        width = space.search_channels
        stem = space.stem_multiplier * width
        self.stem = nn.Sequential(nn.Conv2d(shape[0], stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        reductions = (space.search_cells // 3, 2 * space.search_cells // 3)
        before_last = last = stem
        self.cells = nn.ModuleList()
        for index in range(space.search_cells):
            if index in reductions:
                width *= 2
            self.cells.append(
                PlainCell(space, (before_last, last), width, index in reductions, index - 1 in reductions)
            )
            before_last, last = last, space.nodes * width
        self.classifier = nn.Linear(last, classes)
        edges = sum(node + 2 for node in range(space.nodes))
        self.normal = nn.Parameter(1e-3 * torch.randn(edges, len(space.operations)))
        self.reduce = nn.Parameter(1e-3 * torch.randn(edges, len(space.operations)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        before_last = last = self.stem(images)
        for cell in self.cells:
            weights = functional.softmax(self.reduce if cell.reduction else self.normal, dim=-1)
            before_last, last = last, cell(before_last, last, weights)
        return self.classifier(functional.adaptive_avg_pool2d(last, 1).flatten(1))


def pairs(plain: PlainSupernet, fused: Supernet, space: DartsSpace):
    """(parameter of the fused supernet, the plain parameters whose concatenation it is), for all parameters."""
    yield fused.normal, [plain.normal]
    yield fused.reduce, [plain.reduce]
    for name in ("stem", "classifier"):
        for one, other in zip(getattr(fused, name).parameters(), getattr(plain, name).parameters(), strict=True):
            yield one, [other]
    for cell, plain_cell in zip(fused.cells, plain.cells, strict=True):
        for name in ("preprocess0", "preprocess1"):
            for one, other in zip(
                getattr(cell, name).parameters(), getattr(plain_cell, name).parameters(), strict=True
            ):
                yield one, [other]
        for state, fan in enumerate(cell.fans):
            rows = [row for row, (origin, _node) in enumerate(space.edges()) if origin == state]
            yield from _fan_pairs(fan, [plain_cell.edges[row].operations for row in rows])


def _fan_pairs(fan: Fan, edges: list[nn.ModuleDict]):
    for name, operation in fan.separate.items():
        modules = [edge[name] for edge in edges]
        if isinstance(operation, Convolutions):
            convolutions = [[m for m in module if isinstance(m, nn.Conv2d)] for module in modules]
            for turn, (depthwise, pointwise) in enumerate(zip(operation.depthwise, operation.pointwise, strict=True)):
                yield depthwise.weight, [c[2 * turn].weight for c in convolutions]
                yield pointwise.weight, [c[2 * turn + 1].weight for c in convolutions]
        elif isinstance(operation, Reductions):
            yield (
                operation.pointwise.weight,
                [convolution.weight for module in modules for convolution in (module.conv1, module.conv2)],
            )
        elif isinstance(operation, Separate):
            for module, separate in zip(modules, operation.operations, strict=True):
                for one, other in zip(separate.parameters(), module.parameters(), strict=True):
                    yield one, [other]
