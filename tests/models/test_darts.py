"""The network of searched cells against published counts and shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.cells import DartsNetwork, drop_samples
from nasdistill.models.genotypes import DARTS_V1, DARTS_V2


def darts(**options: object) -> DartsNetwork:
    spec = {"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 6, **options}
    network = MODELS.parse(spec).build((3, 16, 16), 10)
    assert isinstance(network, DartsNetwork)
    return network


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("shorthand", "published"),
    [("darts-v2", 3_349_342), ("darts-v1", 3_169_414), ("darts-v2-16-10", 338_794), ("darts-v2-16-20", 710_682)],
)
def test_parameter_counts_are_the_published_ones(shorthand: str, published: int) -> None:
    with torch.device("meta"):
        assert count(MODELS.parse(shorthand).build((3, 32, 32), 10)) == published


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 15, 9)])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_any_input_shape(shape: tuple[int, int, int], auxiliary: bool) -> None:
    network = MODELS.parse({"name": "darts", "genotype": "DARTS_V1", "channels": 4, "cells": 5, "auxiliary": auxiliary})
    logits, extra = network.build(shape, 7).forward_with_auxiliary(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    assert (extra is not None) == auxiliary
    assert extra is None or extra.shape == (3, 7)


def test_auxiliary_head_on_cifar_is_the_published_one() -> None:
    head = MODELS.parse({"name": "darts", "genotype": "DARTS_V2", "auxiliary": True}).build((3, 32, 32), 10).auxiliary
    convolutions = [(layer.in_channels, layer.out_channels) for layer in head if isinstance(layer, nn.Conv2d)]
    assert convolutions == [(4 * 4 * 36, 128), (128, 768)]
    assert isinstance(head[1], nn.AvgPool2d)


def test_widths_are_those_of_the_cells_and_feature_points_close_each_resolution() -> None:
    network = darts(widths=(4, 5, 6, 7, 8, 9))
    maps: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        if name in network.feature_points:
            module.register_forward_hook(lambda _m, _i, output, name=name: maps.update({name: output}))
    network(torch.randn(2, 3, 16, 16))
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        "cells.1": (4 * 5, 16, 16),
        "cells.3": (4 * 7, 8, 8),
        "cells.5": (4 * 9, 4, 4),
    }


def test_default_widths_double_at_each_reduction() -> None:
    assert MODELS.parse("darts-v2-16-10").cell_widths() == (16,) * 3 + (32,) * 3 + (64,) * 4


def test_drop_path_keeps_the_expectation_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    x = torch.ones(20_000, 2, 1, 1)
    dropped = drop_samples(x, 0.2)
    assert set(dropped.flatten().tolist()) == {0.0, 1.25}
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


def test_drop_path_acts_in_training_only() -> None:
    network = darts()
    images = torch.randn(4, 3, 16, 16)
    network.set_drop_path(0.5)
    network.train()
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_rebuilt_from_plain_data() -> None:
    model = MODELS.parse({"name": "darts", "genotype": DARTS_V1.model_dump(), "channels": 4, "cells": 3})
    spec = NetworkSpec(model=model, shape=(1, 8, 8), classes=3)
    again = NetworkSpec.model_validate(spec.model_dump(mode="json"))
    assert again == spec
    names = {name: value.shape for name, value in spec.build().state_dict().items()}
    assert names == {name: value.shape for name, value in again.build().state_dict().items()}


def test_published_genotypes_have_eight_edges_a_cell_and_no_pool_in_normal_cells() -> None:
    for genotype in (DARTS_V1, DARTS_V2):
        assert [len(node) for node in genotype.normal + genotype.reduce] == [2] * 8
        assert not any("pool" in operation for node in genotype.normal for operation, _state in node)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"genotype": "DARTS_V3"}, "did you mean 'DARTS_V"),
        ({"widths": (4, 4)}, "2 widths for 6 cells"),
        ({"genotype": {"normal": [[["sepconv3x3", 0]]], "reduce": [[["skip_connect", 0]]]}}, "sep_conv_3x3"),
        ({"genotype": {"normal": [[["skip_connect", 2]]], "reduce": [[["skip_connect", 0]]]}}, "may read 0 to 1"),
    ],
)
def test_wrong_specs_are_told_in_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        darts(**options)
