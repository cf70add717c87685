"""Folding computes the same function, and leaves alone what it would change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.folding import folded
from nasdistill.distill.taps import INPUT, Taps
from nasdistill.models.base import MODELS


def trained(network: nn.Module, shape: Shape) -> nn.Module:
    """With batch norms as training leaves them: scales of both signs, shifts, and statistics of what runs through."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the passes, in which the first values do not count
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias, std=0.3)
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(16, *shape) + 0.3)
    return network


def norms(network: nn.Module) -> list[str]:
    return [path for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


def outputs(network: nn.Module, shape: Shape, points: Iterable[str] = ()) -> dict[str, torch.Tensor]:
    """Of a copy in double precision and evaluation mode."""
    images = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    network = copy.deepcopy(network).double().eval()
    with torch.no_grad(), Taps(network, points) as features:
        return {"logits": network(images), **features}


def assert_same_function(network: nn.Module, other: nn.Module, shape: Shape, points: Iterable[str] = ()) -> None:
    """`network` is in double precision, so that the rounding of folded weights does not hide anything."""
    expected, found = outputs(network, shape, points), outputs(other, shape, points)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-11 * max(1.0, float(value.abs().max())))


@pytest.mark.parametrize(
    ("model", "shape", "left"),
    [
        # What stays: the first norm of each block reads a sum (here 3 blocks), and the last one too. The stem feeds
        # the first block's norm, and its shortcut as well unless the block widens.
        ("wrn-10-1", (3, 8, 8), 3 + 1),
        ("wrn-10-2", (3, 8, 8), 2 + 1),
        ("resnet-8", (3, 8, 8), 0),
        # Norms of concatenations stay: the first of each of 3*2 layers, those of 2 transitions, the last one.
        ("densenet-16-4", (3, 8, 8), 6 + 2 + 1),
        ({"name": "darts", "genotype": "DARTS_V2", "cells": 3, "channels": 4}, (3, 8, 8), None),
        ("torchvision:resnet18", (3, 32, 32), 0),
        ("torchvision:mobilenet_v2", (3, 32, 32), 0),
    ],
    ids=str,
)
def test_networks_compute_what_they_did_with_fewer_layers(model: object, shape: Shape, left: int | None) -> None:
    network = trained(MODELS.parse(model).build(shape, 5), shape).double()
    points = tuple(network.feature_points)  # type: ignore[arg-type]
    frozen = folded(network, shape, points)
    assert_same_function(network, frozen, shape, points)
    assert len(norms(frozen)) < len(norms(network))
    if left is not None:
        assert len(norms(frozen)) == left


def test_single_precision_is_folded_too() -> None:
    network = trained(MODELS.parse("resnet-8").build((3, 8, 8), 5), (3, 8, 8))
    frozen = folded(network, (3, 8, 8))
    assert norms(frozen) == []
    assert {parameter.dtype for parameter in frozen.parameters()} == {torch.float32}
    expected, found = outputs(network, (3, 8, 8))["logits"], outputs(frozen, (3, 8, 8))["logits"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_the_folded_weights_are_those_of_the_formula(groups: int, bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, groups=groups, bias=bias)
    network = trained(nn.Sequential(conv, norm := nn.BatchNorm2d(6, eps=0.1, affine=affine)), (4, 5, 5)).double()
    frozen = folded(network, (4, 5, 5))
    assert isinstance(frozen, nn.Sequential)
    assert norms(frozen) == []
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.weight if affine else 1) / (norm.running_var + 0.1).sqrt()
    shift = norm.bias if affine else 0
    torch.testing.assert_close(frozen[0].weight, conv.weight * scale.view(-1, 1, 1, 1))
    torch.testing.assert_close(frozen[0].bias, ((conv.bias if bias else 0) - norm.running_mean) * scale + shift)  # type: ignore[operator]
    assert_same_function(network, frozen, (4, 5, 5))


def test_the_callers_network_is_left_as_it_is() -> None:
    network = trained(MODELS.parse("resnet-8").build((3, 8, 8), 5), (3, 8, 8)).train()
    network.get_submodule("classifier").eval()
    for parameter in network.get_submodule("classifier").parameters():
        parameter.requires_grad = False
    modes = {path: module.training for path, module in network.named_modules()}
    gradients = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    state = copy.deepcopy(network.state_dict())
    hooks = {path: len(module._forward_hooks) for path, module in network.named_modules()}
    frozen = folded(network, (3, 8, 8), ("groups.0",))
    assert {path: module.training for path, module in network.named_modules()} == modes
    assert {name: parameter.requires_grad for name, parameter in network.named_parameters()} == gradients
    assert {path: len(module._forward_hooks) for path, module in network.named_modules()} == hooks
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    # The copy is frozen, carries no hook, and shares no memory with it.
    assert not any(module.training or module._forward_hooks for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    ours = {parameter.data_ptr() for parameter in network.parameters()}
    assert not ours & {parameter.data_ptr() for parameter in frozen.parameters()}


class Small(nn.Module):
    """Two convolutions with batch norms; what surrounds the first pair differs, the second is always foldable."""

    def __init__(self, run: Callable[[Small, torch.Tensor], torch.Tensor], tracked: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2, track_running_stats=tracked)
        self.other_norm = nn.BatchNorm2d(2)
        self.last_conv = nn.Conv2d(2, 3, 3)
        self.last_norm = nn.BatchNorm2d(3)
        self.run = run

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last_norm(self.last_conv(self.run(self, images))).mean(dim=(2, 3))
        return logits


def read_by_a_sum(small: Small, images: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = small.conv(images)
    return torch.relu(small.norm(made)) + made


def read_by_two_norms(small: Small, images: torch.Tensor) -> torch.Tensor:
    made = small.conv(images)
    return torch.relu(small.norm(made)) + torch.sigmoid(small.other_norm(made))


def convolution_twice(small: Small, images: torch.Tensor) -> torch.Tensor:
    return torch.relu(small.norm(small.conv(torch.relu(small.conv(images)))))


def norm_twice(small: Small, images: torch.Tensor) -> torch.Tensor:
    return torch.relu(small.norm(torch.relu(small.norm(small.conv(images)))))


def activated_between(small: Small, images: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = small.norm(torch.relu(small.conv(images)))
    return normed


def attributes_read(small: Small, images: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = small.norm(small.conv(images)) * small.norm.weight.sum()
    return normed


def norm_by_keyword(small: Small, images: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = small.norm(input=small.conv(images))
    return normed


def plain(small: Small, images: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = small.norm(small.conv(images))
    return normed


@pytest.mark.parametrize(
    "run",
    [read_by_a_sum, read_by_two_norms, convolution_twice, norm_twice, activated_between, attributes_read,
     norm_by_keyword],
)  # fmt: skip
def test_a_pair_that_would_change_something_stays_and_the_others_are_folded(
    run: Callable[[Small, torch.Tensor], torch.Tensor],
) -> None:
    network = trained(Small(run), (2, 6, 6)).double()
    frozen = folded(network, (2, 6, 6))
    assert norms(frozen) == ["norm", "other_norm"]
    assert_same_function(network, frozen, (2, 6, 6))


def test_a_convolution_whose_output_is_read_keeps_it() -> None:
    network = trained(Small(plain), (2, 6, 6)).double()
    assert norms(folded(network, (2, 6, 6))) == ["other_norm"]
    for points in (["conv"], ["conv", "norm"], ["conv", "conv"], ["norm" + INPUT]):
        frozen = folded(network, (2, 6, 6), points)
        assert norms(frozen) == ["norm", "other_norm"]
        assert_same_function(network, frozen, (2, 6, 6), points)


def test_what_a_folded_norm_puts_out_can_still_be_read() -> None:
    network = trained(Small(plain), (2, 6, 6)).double()
    frozen = folded(network, (2, 6, 6), ["norm"])
    assert norms(frozen) == ["other_norm"]
    assert_same_function(network, frozen, (2, 6, 6), ["norm"])


def test_a_point_around_a_convolution_keeps_what_it_puts_out() -> None:
    network = trained(nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 3)), nn.BatchNorm2d(2)), (2, 6, 6)).double()
    assert norms(folded(network, (2, 6, 6))) == []
    frozen = folded(network, (2, 6, 6), ["0"])
    assert norms(frozen) == ["1"]
    assert_same_function(network, frozen, (2, 6, 6), ["0"])


def test_norms_of_the_batchs_own_statistics_stay() -> None:
    network = trained(Small(plain, tracked=False), (2, 6, 6)).double()
    frozen = folded(network, (2, 6, 6))
    assert norms(frozen) == ["norm", "other_norm"]
    assert_same_function(network, frozen, (2, 6, 6))


class SinglePrecision(nn.Module):
    """Code that says float32 itself, as some published networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.norm(self.conv(images.float())).mean(dim=(2, 3))
        return logits


def test_a_network_that_cannot_be_compared_stays() -> None:
    network = trained(SinglePrecision(), (2, 6, 6))
    frozen = folded(network, (2, 6, 6))
    assert norms(frozen) == ["norm"]
    images = torch.randn(2, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(frozen(images), network.eval()(images))


def test_networks_are_compared_where_double_precision_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the accelerators of Macs, for instance, where the student's attention maps are read."""
    moved: list[str] = []
    to_cpu, to_double = nn.Module.cpu, nn.Module.double
    monkeypatch.setattr(nn.Module, "cpu", lambda module: [to_cpu(module), moved.append("cpu")][0])
    monkeypatch.setattr(nn.Module, "double", lambda module: [to_double(module), moved.append("double")][0])
    folded(trained(nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), (2, 6, 6)), (2, 6, 6))
    assert moved == ["cpu", "double"]


def test_networks_without_batch_norm_or_convolution_are_copied() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    frozen = folded(network, (2, 6, 6))
    assert frozen is not network
    assert_same_function(network.double(), frozen, (2, 6, 6))


class NormThen(nn.BatchNorm2d):
    """A batch norm with an activation of its own, as timm has them."""

    def __init__(self, channels: int, before: bool) -> None:
        super().__init__(channels)
        self.act = nn.ReLU6()
        self.before = before

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.act(images)) if self.before else self.act(super().forward(images))


@pytest.mark.parametrize("before", [False, True])
def test_what_a_batch_norm_does_afterwards_stays_and_what_it_does_before_is_left_alone(before: bool) -> None:
    layers = (nn.Conv2d(3, 4, 3), NormThen(4, before), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.LazyLinear(2))
    network = trained(nn.Sequential(*layers), (3, 6, 6)).double().eval()
    found = folded(network, (3, 6, 6), ["1.act"])
    assert norms(found) == (["1"] if before else [])
    assert_same_function(network, found, (3, 6, 6), ["1.act"])
