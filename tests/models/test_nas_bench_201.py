"""The network of NAS-Bench-201 against the benchmark's own counts and against modules written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import SpecError
from nasdistill.growth.widening import widen
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.models.summed_cells import Reduction, SummedCell, nodes_before_output

CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SKIPS = CONVOLUTIONS.replace("nor_conv_3x3", "skip_connect")
MIXED = "|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def small(cell: str = MIXED, **options: object) -> NetworkSpec:
    model = MODELS.parse({"name": "nas-bench-201", "cell": cell, "channels": 4, "cells": 2, **options})
    return NetworkSpec(model=model, shape=(3, 10, 10), classes=5)


@pytest.mark.parametrize(
    ("cell", "classes", "side", "parameters", "millions"),
    [
        (CONVOLUTIONS, 10, 32, 1_531_546, 220.11969),
        (SKIPS, 10, 32, 73_306, 7.78305),
        (CONVOLUTIONS, 100, 32, 1_537_396, 220.12554),
        (SKIPS, 100, 32, 79_156, 7.7889),
        (CONVOLUTIONS, 120, 16, 1_538_696, 55.03756),
        (SKIPS, 120, 16, 80_456, 1.9534),
    ],
)
def test_sizes_are_the_benchmarks(cell: str, classes: int, side: int, parameters: int, millions: float) -> None:
    """The largest and the smallest `params` and `flop` in the benchmark's file v1.1, for each of its data sets. Its
    FLOPs are multiply-adds of convolutions and of the classifier, and count the latter's biases."""
    with torch.device("meta"):
        network = MODELS.parse(cell).build((3, side, side), classes)
        assert count_parameters(network) == parameters
        assert (multiply_adds(network, (3, side, side)) + classes) / 1e6 == pytest.approx(millions, abs=1e-9)


def test_a_cell_by_hand() -> None:
    torch.manual_seed(0)
    rows = (("nor_conv_1x1",), ("none", "avg_pool_3x3"), ("skip_connect", "nor_conv_3x3", "nor_conv_1x1"))
    cell = SummedCell(rows, 3).double().eval()
    x = torch.randn(2, 3, 5, 5, dtype=torch.double)

    def convolved(state: torch.Tensor, name: str) -> torch.Tensor:
        weight = dict(cell.named_parameters())[name]
        return functional.conv2d(state.relu(), weight, padding=weight.shape[-1] // 2) / (1 + 1e-5) ** 0.5

    one = convolved(x, "nodes.0.0.1.weight")
    two = functional.avg_pool2d(one, 3, 1, 1, count_include_pad=False)
    three = x + convolved(one, "nodes.2.1.1.weight") + convolved(two, "nodes.2.2.1.weight")
    torch.testing.assert_close(cell(x), three)


def test_the_block_between_stages_by_hand() -> None:
    torch.manual_seed(0)
    block = Reduction(2, 3).double().eval()
    x = torch.randn(2, 2, 6, 6, dtype=torch.double)
    norm = (1 + 1e-5) ** -0.5
    first = norm * functional.conv2d(x.relu(), block.get_parameter("branch.0.1.weight"), stride=2, padding=1)
    second = norm * functional.conv2d(first.relu(), block.get_parameter("branch.1.1.weight"), padding=1)
    shortcut = functional.conv2d(functional.avg_pool2d(x, 2), block.get_parameter("shortcut.1.weight"))
    torch.testing.assert_close(block(x), shortcut + second)


@pytest.mark.parametrize(
    ("rows", "leading"),
    [
        ((("a",), ("a", "a"), ("a", "a", "a")), {0, 1, 2}),
        ((("a",), ("a", "none"), ("a", "none", "a")), {1, 2}),
        ((("a",), ("a", "a"), ("a", "none", "none")), {2}),
        ((("a",), ("none", "a"), ("none", "none", "a")), {0, 1, 2}),
    ],
)
def test_nodes_lead_to_the_output_or_learn_nothing(rows: tuple[tuple[str, ...], ...], leading: set[int]) -> None:
    assert nodes_before_output(rows) == leading


@pytest.mark.parametrize(
    "cell",
    [
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|",
    ],
)
def test_all_that_can_learn_has_a_gradient(cell: str) -> None:
    """Processes that train together wait for each of them."""
    network = small(cell).build()
    network(torch.randn(2, 3, 10, 10)).sum().backward()
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in learning)
    assert len(learning) < len(list(network.parameters())) or "3x3" not in cell


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (1, 28, 28)])
def test_any_shape_and_points_at_the_ends_of_stages(shape: tuple[int, int, int]) -> None:
    network = MODELS.parse({"name": "nas-bench-201", "cell": MIXED, "cells": 1, "widths": (4, 5, 7)}).build(shape, 6)
    maps: dict[str, torch.Tensor] = {}
    for point in network.feature_points:
        network.get_submodule(point).register_forward_hook(lambda _m, _i, output, at=point: maps.update({at: output}))
    assert network(torch.randn(2, *shape)).shape == (2, 6)
    height, width = shape[1:]
    sides = [(-(-height // 2**stage), -(-width // 2**stage)) for stage in range(3)]
    assert [tuple(maps[f"stages.{stage}"].shape[1:]) for stage in range(3)] == [
        (channels, *side) for channels, side in zip((4, 5, 7), sides, strict=True)
    ]


@pytest.mark.parametrize("stage", range(3))
def test_a_wider_stage_computes_the_same(stage: int) -> None:
    torch.manual_seed(0)
    spec = small(widths=(4, 5, 7))
    network = spec.build().double().eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.weight, 0.5, 2)
    wider_spec, wider = widen(spec, network, f"stages.{stage}", 11)
    assert wider_spec.model.stage_widths()[stage] == 11
    images = torch.randn(3, 3, 10, 10, dtype=torch.double)
    torch.testing.assert_close(wider(images), network(images), rtol=1e-9, atol=1e-9)


def test_parts_add_up_and_widths_that_double_stay_implicit() -> None:
    spec = small()
    parts = list(spec.model.parts(spec.shape, spec.classes))
    assert sum(count_parameters(part.build()) for part in parts) == count_parameters(spec.build())
    sizes = (multiply_adds(part.build(), part.reads) for part in parts)
    assert sum(sizes) == multiply_adds(spec.build(), spec.shape)
    assert spec.model.scaled(2.0) == small(channels=8).model
    assert spec.model.scaled(1.1).widths == (4, 9, 18)
    assert spec.model.with_blocks(3) == small(cells=3).model


def test_rows_and_strings_are_one_model() -> None:
    rows = [["nor_conv_1x1"], ["none", "avg_pool_3x3"], ["skip_connect", "nor_conv_3x3", "nor_conv_1x1"]]
    assert MODELS.parse({"name": "nas-bench-201", "cell": rows}) == MODELS.parse(MIXED)
    assert MODELS.parse(MODELS.parse(MIXED).spec()) == MODELS.parse(MIXED)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cell": "|nor_conv_3x4~0|"}, "unknown operation 'nor_conv_3x4'; did you mean 'nor_conv_3x3'"),
        ({"cell": [["nor_conv_3x3"], ["none"]]}, "node 2, is written"),
        ({"cell": 7}, "a string or a list of rows"),
        ({"cell": MIXED, "widths": (4, 4)}, "2 widths for 3 stages"),
    ],
)
def test_wrong_specs_are_told_in_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        MODELS.parse({"name": "nas-bench-201", **options})
