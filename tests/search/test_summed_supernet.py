"""The supernet of NAS-Bench-201 against one that computes edge by edge, and a search of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.preparation import load
from nasdistill.models.operations import OPERATIONS
from nasdistill.registry import build, registry
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.selections import SELECTIONS
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.darts import DartsSearch
from nasdistill.search.summed_supernet import MixedSum, SummedSupernet
from tests.search.parts import engine

SPACE = SPACES.parse({"name": "nas-bench-201", "search_channels": 4, "search_cells": 1, "channels": 4, "cells": 1})
WIDER = {
    "name": "custom-nas-bench-201",
    "operations": ["nor_conv_3x3", "sep_conv_3x3", "max_pool_3x3"],
    "nodes": 4,
    "search_channels": 4,
}


def normalised(x: torch.Tensor) -> torch.Tensor:
    return functional.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize("space", [SPACE, SPACES.parse(WIDER)], ids=["published", "other nodes and operations"])
def test_a_cell_is_the_sum_of_its_edges_with_the_same_gradients(space) -> None:
    """Both hold the same convolutions: what the fan computes at once is cut into those of the edges."""
    torch.manual_seed(0)
    cell = MixedSum(space, 4, SummedSupernet(space, (3, 8, 8), 5).edges).double()
    state = torch.randn(2, 4, 7, 7, dtype=torch.double, requires_grad=True)
    alphas = torch.randn(len(space.edges()), len(space.operations), dtype=torch.double, requires_grad=True)
    weights = alphas.softmax(dim=1)
    fused = cell(state, Mixture("normal", Moment(), alphas, weights))

    states = [state]
    for node in range(space.nodes):
        total = torch.zeros_like(state)
        for origin in range(node + 1):
            row = space.edges().index((origin, node))
            for name, weight in zip(space.operations, weights[row], strict=True):
                total = total + weight * computed(cell, name, states[origin], origin, node)
        states.append(total)

    torch.testing.assert_close(fused, states[-1])
    direction = torch.randn_like(fused)
    read = [state, alphas, *cell.parameters()]
    both = [torch.autograd.grad((out * direction).sum(), read, retain_graph=True) for out in (fused, states[-1])]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)


def computed(cell: MixedSum, name: str, state: torch.Tensor, origin: int, node: int) -> torch.Tensor:
    """What the benchmark's operation makes of a state on the edge to a node; pools without a batch norm."""
    if name in ("none", "skip_connect"):
        return state * (name == "skip_connect")
    if name == "avg_pool_3x3":
        return functional.avg_pool2d(state, 3, 1, 1, count_include_pad=False)
    if name == "max_pool_3x3":
        return functional.max_pool2d(state, 3, 1, 1)
    convolution, edge = cell.fans[origin].separate[name], node - origin
    of_edge = slice(4 * edge, 4 * edge + 4)
    if name.startswith("nor_conv"):
        kernel = convolution.convolution.weight[of_edge]
        return normalised(functional.conv2d(state.relu(), kernel, padding=kernel.shape[-1] // 2))
    for depthwise, pointwise in zip(convolution.depthwise, convolution.pointwise, strict=True):
        state = functional.conv2d(state.relu(), depthwise.weight[of_edge], padding=1, groups=4)
        state = normalised(functional.conv2d(state, pointwise.weight[of_edge]))
    return state


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["nor_conv_1x1", "nor_conv_3x3"])
def test_full_convolutions_serve_cells_of_darts_too(name: str, stride: int) -> None:
    torch.manual_seed(0)
    space = SPACES.parse({"name": "custom", "operations": [name], "nodes": 1})
    fan = registry("edges").parse("dense").fan(space, 3, [space.operations] * 2, stride).double()
    edges = [OPERATIONS.get(name)().build(3, stride, affine=False).double() for _ in range(2)]
    for edge, operation in enumerate(edges):
        (kernel,) = operation.parameters()
        kernel.data = fan.separate[name].convolution.weight.data[3 * edge : 3 * edge + 3]
    state, weights = torch.randn(4, 3, 7, 7, dtype=torch.double), torch.tensor([[0.3], [0.9]], dtype=torch.double)
    expected = torch.cat([weight * operation(state) for weight, operation in zip(weights, edges, strict=True)], dim=1)
    torch.testing.assert_close(fan(state, Mixture("normal", Moment(), weights, weights)), expected)
    drawn = Mixture("normal", Moment(), weights, weights * torch.tensor([[0], [1]]), None, [[False], [True]])
    torch.testing.assert_close(fan(state, drawn)[:, 3:], expected[:, 3:])


def test_the_supernet_has_one_kind_of_alphas_and_the_benchmarks_frame() -> None:
    """Parameters: those of the frame as published for all skips (73,306), and five cells with six edges in each of
    three stages, which hold a 1x1 and a 3x3 convolution without scales."""
    supernet = SummedSupernet(SPACES.parse("nas-bench-201"), (3, 32, 32), 10)
    assert [tuple(alpha.shape) for alpha in supernet.alphas()] == [(6, 5)]
    cells = sum(5 * 6 * (9 + 1) * width**2 for width in (16, 32, 64))
    assert sum(weight.numel() for weight in supernet.weights()) == 73_306 + cells
    assert not list(supernet.buffers())


def test_the_strongest_operations_are_kept_none_among_them() -> None:
    strengths = torch.full((6, 5), 0.1)
    for row, column in enumerate((3, 0, 1, 4, 2, 0)):
        strengths[row, column] = 0.6
    cell = SELECTIONS.parse("strongest").cell(SPACE, Mixture("normal", Moment(), strengths, strengths))
    assert SPACE.model_of({"normal": cell})["cell"] == (
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    )


@pytest.mark.parametrize("options", [{}, {"order": 2}, {"sampler": "gumbel", "edge_normalisation": True}])
def test_a_search_ends_with_the_cell_that_its_curves_say(options: dict[str, object], tmp_path: Path) -> None:
    data = load(registry("datasets").parse("digits"), 0)
    data = dataclasses.replace(data, train=data.train.subset(torch.arange(64)))
    strategy = build(DartsSearch, {"epochs": 1, "batch_size": 16, "alpha_lr": 0.1, **options})
    found = strategy.search(SPACE, data, engine(), 3)
    curves = found.history["curves"]
    shares = options.get("edge_normalisation", False)
    assert len([name for name in curves if name.startswith("alpha/normal/")]) == 6 * (5 + shares)
    best = [
        max(SPACE.operations, key=lambda name, edge=edge: curves[f"alpha/normal/{edge}/{name}"][-1][1])
        for edge in range(6)
    ]
    model = registry("models").parse(found.model)
    assert [name for row in model.rows() for name in row] == best
    assert curves["skips/normal"][-1][1] == best.count("skip_connect")
    assert isinstance(model.build(data.shape, 10), nn.Module)


def test_random_cells_are_the_seeds_alone() -> None:
    data = load(registry("datasets").parse("digits"), 0)
    found = [STRATEGIES.parse("random").search(SPACE, data, engine(), seed).model["cell"] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
