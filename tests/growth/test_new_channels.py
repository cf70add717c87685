"""Channels that begin without effect: nothing that is computed changes, and gradients are as large as they can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError
from nasdistill.growth.new_channels import Added, gradients, maximise_gradients, widened, with_zeros
from nasdistill.growth.plan import with_model, with_units
from nasdistill.growth.student import Student
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.training.engine import Engine, EngineSettings
from tests.growth.parts import draw_norms

ENGINE = Engine(EngineSettings(accelerator="cpu", precision="32"))


def student(model: Any, size: int = 8, images: int = 12) -> Student:
    """In double precision, with statistics and scales that are drawn, and three classes."""
    torch.manual_seed(0)
    spec = with_units(NetworkSpec(model=MODELS.parse(model), shape=(3, size, size), classes=3))
    network = spec.build().double().eval()
    draw_norms(network, bound=0.5)
    labels = torch.arange(images) % 3
    batches = [(torch.randn(images, 3, size, size, dtype=torch.float64) + labels.view(-1, 1, 1, 1), labels)]
    return Student(spec, network, batches, ENGINE)


def wider(spec: NetworkSpec, factor: float = 1.5) -> NetworkSpec:
    return with_model(spec, spec.model.scaled(factor))


WRN = {"name": "wrn", "depth": 10, "width": 1, "widths": [4, 5, 6, 8]}
DARTS = {"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 3}
MOBILENET = "torchvision:mobilenet_v3_small"


@pytest.mark.parametrize("new", ["zero", "gradmax"])
@pytest.mark.parametrize("model", [WRN, DARTS, pytest.param(MOBILENET, marks=pytest.mark.slow)])
def test_nothing_that_is_computed_changes(model: Any, new: Any) -> None:
    """Residual sums, concatenations and depthwise filters; squeeze-and-excitations. In training, too."""
    small = student(model)
    before = {name: value.clone() for name, value in small.network.state_dict().items()}
    grown = widened(small, wider(small.spec), new, torch.Generator())
    (images, _labels), *_ = small.batches
    assert all(torch.equal(value, before[name]) for name, value in small.network.state_dict().items())
    for training in (False, True) if model != MOBILENET else (False,):  # which drops at random
        expected = small.network.train(training)(images)
        torch.testing.assert_close(grown.train(training)(images), expected, rtol=1e-9, atol=1e-9)


def norms(network: nn.Module, added: list[Added], small: Student) -> torch.Tensor:
    """Of the gradients of the weights that read the new channels of each group, by autograd."""
    found = gradients(network, {name for each in added for name in each.outgoing}, small.batches, ENGINE)
    return torch.stack(
        [torch.stack([found[name].take(at).norm() for name, at in each.outgoing.items()]).norm() for each in added]
    )


@pytest.mark.parametrize("model", [WRN, DARTS])
def test_no_random_weights_of_the_same_norm_have_larger_gradients(model: Any) -> None:
    small = student(model)
    network, added = with_zeros(small.spec, small.network, wider(small.spec))
    lengths = [rows(network, each).norm(dim=1).mean() for each in added]
    maximise_gradients(network, added, small.batches, ENGINE)
    best = norms(network, added, small)
    for each, length in zip(added, lengths, strict=True):
        torch.testing.assert_close(rows(network, each).norm(dim=1).mean(), length)
    random = []
    for _ in range(20):
        for each, length in zip(added, lengths, strict=True):
            drawn = length * functional.normalize(torch.randn_like(rows(network, each)))
            columns = torch.split(drawn, [at.shape[1] for at in each.incoming.values()], dim=1)
            for (name, at), values in zip(each.incoming.items(), columns, strict=True):
                network.get_parameter(name).detach().put_(at, values)
        random.append(norms(network, added, small))
    assert (best > torch.stack(random).amax(dim=0)).all()
    assert best.norm() > 2 * torch.stack(random).norm(dim=1).mean()


def rows(network: nn.Module, new: Added) -> torch.Tensor:
    """The incoming weights of each new channel."""
    return torch.cat([network.get_parameter(name).detach().take(at) for name, at in new.incoming.items()], dim=1)


class Linear(nn.Module):
    """Two matrices, one after the other."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, hidden, bias=False), nn.Linear(hidden, classes, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.second(self.first(images.mean(dim=(2, 3))))
        return logits


def test_of_a_linear_network_they_are_the_singular_vectors_of_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """M = sum over images of dL/d(logits) times what the first layer reads, transposed: by hand and by torch's SVD."""
    monkeypatch.setattr("nasdistill.growth.new_channels.ROUNDS", 20)
    torch.manual_seed(1)
    labels = torch.arange(30) % 3
    images = torch.randn(30, 3, 4, 4, dtype=torch.float64) + torch.eye(3).double()[labels].view(30, 3, 1, 1)
    network = Linear(4, 3).double()
    with torch.no_grad():
        network.second.weight[:, 3] = 0
    read = images.mean(dim=(2, 3))
    error = network(images).softmax(dim=1) - torch.eye(3).double()[labels]
    _left, values, right = torch.linalg.svd((error.T @ read).detach())
    new = Added(
        "first", {"first.weight": torch.arange(9, 12).view(1, 3)}, {"second.weight": torch.tensor([[3, 7, 11]])}
    )
    length = network.first.weight[3].norm().item()
    maximise_gradients(network, [new], [(images, labels)], ENGINE)
    gradient = gradients(network, ["second.weight"], [(images, labels)], ENGINE)["second.weight"][:, 3]
    assert gradient.norm().item() == pytest.approx(length * values[0].item(), rel=1e-9)
    assert abs((network.first.weight[3] @ right[0]).item()) == pytest.approx(length, rel=1e-9)


def test_channels_that_a_norm_takes_together_are_told() -> None:
    small = student("torchvision:convnext_tiny", size=32)
    with pytest.raises(UserError, match="change the others, as a norm takes them together: they can only be copies"):
        widened(small, wider(small.spec, 1.02), "zero", torch.Generator())
