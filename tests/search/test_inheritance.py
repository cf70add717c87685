"""What a found network takes over from the supernet, or from the race, that it was found in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.data.seeds import generator_for
from nasdistill.models.base import NetworkSpec
from nasdistill.registry import registry
from nasdistill.search.gradient import halves
from nasdistill.search.inheritance import inherit
from nasdistill.search.sharing import only
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.random import sample_cell
from nasdistill.search.supernets import supernet_of
from nasdistill.training.batches import Batch
from tests.search.parts import engine

TABLED = {"name": "nas-bench-201", "search_channels": 4, "search_cells": 2, "channels": 4, "cells": 2, "stages": 2}
CHAINED = {
    "name": "custom",
    "operations": ["none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"],
    "nodes": 3,
    "search_channels": 4,
    "channels": 4,
    "search_cells": 4,
    "cells": 4,
}
OFFERS = [["skip_connect", "dil_conv_5x5"], ["sep_conv_3x3", "skip_connect"]]
APART = {**CHAINED, "nodes": 1, "edge_operations": {"normal": OFFERS, "reduce": OFFERS[::-1]}}
ODD = {**CHAINED, "search_channels": 3, "channels": 3, "operations": ["skip_connect", "sep_conv_5x5", "nor_conv_1x1"]}


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(64)))


@pytest.mark.parametrize("options", [TABLED, CHAINED, ODD, APART], ids=["summed", "chained", "odd", "apart"])
def test_the_network_computes_what_the_supernet_does_with_its_operations_alone(options: dict[str, Any]) -> None:
    space = SPACES.parse(options)
    torch.manual_seed(0)
    supernet = supernet_of(space, (2, 9, 9), 5).double()
    images = torch.randn(6, 2, 9, 9, dtype=torch.double)
    for seed in range(3):
        cells = {kind: sample_cell(space, kind, generator_for(seed, kind)) for kind in space.kinds}
        model = space.model_of(cells)
        spec = NetworkSpec(model=registry("models").parse(model), shape=(2, 9, 9), classes=5)
        network = spec.build().double().train()
        supernet.hand_over(space.cells_in(model), network)
        mixtures = [only(space, kind, cell, images.device) for kind, cell in cells.items()]
        mixtures = [dataclasses.replace(each, weights=each.weights.double()) for each in mixtures]
        torch.testing.assert_close(network(images), supernet(images, mixtures), rtol=1e-10, atol=1e-10)


def handed_over(strategy: dict[str, Any], data: Data) -> nn.Module:
    found = STRATEGIES.parse(strategy).search(SPACES.parse(TABLED), data, engine(), 3)
    network = NetworkSpec.for_data(found.model, data).build()
    assert found.hand_over is not None
    found.hand_over(network)
    return network


@pytest.mark.parametrize("strategy", ["darts", "random-sharing"])
def test_statistics_are_those_of_the_half_that_taught_the_weights(strategy: str, data: Data) -> None:
    network = handed_over({"name": strategy, "epochs": 1, "batch_size": 32}, data)
    (batch,) = halves(data, 32, engine(), 3)[0].epoch(0)
    mean = network.stem[0](batch.images).mean(dim=(0, 2, 3))
    torch.testing.assert_close(network.stem[1].running_mean, mean)


def test_batches_are_augmented_in_full_precision(data: Data) -> None:
    """What matrix products such as a blur's make of images must not be rounded, as it is not in training."""
    rounded = []

    class Watched:
        def epoch(self, number: int) -> Iterator[Batch]:
            for batch in halves(data, 32, engine(), 3)[0].epoch(number):
                rounded.append(torch.is_autocast_enabled("cpu"))
                yield batch

    space = SPACES.parse(CHAINED)
    cells = {kind: sample_cell(space, kind, generator_for(0, kind)) for kind in space.kinds}
    model = space.model_of(cells)
    network = NetworkSpec.for_data(registry("models").parse(model), data).build()
    supernet = supernet_of(space, data.shape, len(data.classes))
    inherit(supernet, space.cells_in(model), Watched(), engine("bf16"), network)
    assert rounded == [False]


def test_the_winner_of_a_race_goes_on_with_all_that_it_has(data: Data) -> None:
    network = handed_over({"name": "successive-halving", "candidates": 2, "epochs": 3, "batch_size": 32}, data)
    assert network.stem[1].num_batches_tracked == 6  # two steps of three epochs
