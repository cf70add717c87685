"""Growth while training: the network, the optimiser's memory and the average of the weights after it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from nasdistill.errors import SpecError
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.plan import fitted
from nasdistill.growth.while_training import kept, resized_memory
from nasdistill.growth.widening import carried, changes_between, random_sources
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.training.optimizers import OPTIMIZERS
from nasdistill.training.tasks import Supervised
from tests.training.parts import engine

DARTS = {"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 3, "stem_multiplier": 1}


def spec_of(model: Any) -> NetworkSpec:
    return NetworkSpec(model=MODELS.parse(model), shape=(3, 8, 8), classes=5)


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 3, 8, 8, dtype=torch.float64, generator=generator), torch.arange(8) % 5) for _ in range(count)
    ]


def memory(network: nn.Module, optimizer: Any) -> dict[str, dict[str, torch.Tensor]]:
    """What an optimiser has gathered after some batches at the same weights, by parameter and key."""
    running = optimizer.build(list(network.parameters()))
    if "eps" in running.param_groups[0]:
        running.param_groups[0]["eps"] = 1e-100  # which does not scale with the gradients
    for images, labels in batches(3):
        running.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        running.step()
    return {
        name: {key: running.state[parameter][key] for key in optimizer.state_degrees}
        for name, parameter in network.named_parameters()
    }


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        (DARTS, {"name": "sgd"}),
        (DARTS, {"name": "adam"}),
        ("wrn-10-1", {"name": "sgd"}),
        # which divides by the root of the mean square: where a gradient is nothing but rounding, so is its memory
        ("mlp-7", {"name": "rmsprop", "momentum": 0.9}),
    ],
    ids=["darts-sgd", "darts-adam", "wrn-sgd", "mlp-rmsprop"],
)
def test_an_optimiser_remembers_what_it_would_have_seen_of_the_wider_network(model: Any, optimizer: Any) -> None:
    """Gradients of the wide network, in closed form those of the narrow one times a factor, are gathered alike."""
    component = OPTIMIZERS.parse({**optimizer, "lr": 1e-200, "weight_decay": 0.0})
    spec = spec_of(model)
    wider = fitted(spec, GROWTH_METHODS.parse({"name": "uniform", "ratio": 2.5}).target(spec))
    sources = kept(random_sources(torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    network = spec.build().double()
    changes = changes_between(spec, wider, sources)
    wide = carried(spec, network, wider, sources=sources)
    narrow_memory, expected = memory(network, component), memory(wide, component)
    assert len(changes) > 1
    for name, remembered in narrow_memory.items():
        for key, tensor in remembered.items():
            grown = resized_memory(
                tensor, expected[name][key].shape, changes.get(name, ()), component.state_degrees[key]
            )
            scale = expected[name][key].abs().max().item()
            torch.testing.assert_close(grown, expected[name][key], rtol=1e-9, atol=1e-9 * scale)


def test_the_network_and_its_average_compute_what_they_did() -> None:
    spec = spec_of("wrn-10-1")
    torch.manual_seed(0)
    task = Supervised(spec.build().double())
    average = AveragedModel(task.network, use_buffers=True)
    for parameter in average.module.parameters():
        parameter.data.mul_(1.1)  # another network than the one that is trained
    component = OPTIMIZERS.parse("sgd")
    optimizer = component.build(task.parameters())
    growth = GROWTH_METHODS.parse({"name": "uniform", "ratio": 2.0}).while_training([1, 3], spec)
    growth.begin(task, optimizer, average, component.state_degrees, engine())
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    before = [copy.deepcopy(network).eval()(images) for network in (task.network, average.module)]
    random = torch.get_rng_state()
    assert [growth.grow(epoch) for epoch in (1, 2, 3)] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), random)
    after = [network.eval()(images) for network in (task.network, average.module)]
    torch.testing.assert_close(after[1], before[1], rtol=1e-9, atol=1e-9)
    assert 0 < (after[0] - before[0]).abs().max() < 0.05 * before[0].abs().max()
    assert [step["ratio"] for step in growth.steps] == pytest.approx([2**0.5, 2.0], rel=0.02)
    assert {id(each) for each in optimizer.param_groups[0]["params"]} == set(map(id, task.network.parameters()))
    for parameter in task.parameters():
        assert optimizer.state[parameter]["momentum_buffer"].shape == parameter.shape


def test_what_could_only_fail_after_hours_is_refused_first() -> None:
    fisher = GROWTH_METHODS.parse({"name": "fisher", "ratio": 40.0})
    with pytest.raises(SpecError, match="widening units up to 4 times cannot reach 40 times"):
        fisher.while_training([1], spec_of("wrn-10-1"))
    with pytest.raises(SpecError, match="times the size each is within the tolerance of"):
        GROWTH_METHODS.parse({"name": "uniform", "ratio": 1.2}).while_training(range(1, 10), spec_of("mlp-7"))
    many = GROWTH_METHODS.parse({"name": "uniform", "ratio": 1.3, "tolerance": 0.001})
    with pytest.raises(SpecError, match="scaling all widths alike cannot reach"):
        many.while_training(range(1, 9), spec_of("mlp-2"))
