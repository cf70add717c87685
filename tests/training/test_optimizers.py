"""Optimisers against their update rules, written out on plain tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nasdistill.registry import registry
from nasdistill.training.optimizers import can_fuse, quicken


def three_steps(spec: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """A channels-last weight before and after three steps, and the gradients of these steps."""
    generator = torch.Generator().manual_seed(0)
    start, *gradients = torch.randn(4, 6, 5, 3, 3, generator=generator)
    parameter = torch.nn.Parameter(start.clone().to(memory_format=torch.channels_last))
    optimizer = registry("optimizers").parse(spec).build([parameter])
    for gradient in gradients:
        parameter.grad = gradient.to(memory_format=torch.channels_last)
        optimizer.step()
    return start, parameter.detach(), gradients


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    start, found, gradients = three_steps({"name": "sgd", "lr": 0.1, "weight_decay": 0.01, "nesterov": nesterov})
    weight, velocity = start.clone(), torch.zeros_like(start)
    for gradient in gradients:
        slope = gradient + 0.01 * weight
        velocity = 0.9 * velocity + slope
        weight = weight - 0.1 * (slope + 0.9 * velocity if nesterov else velocity)
    torch.testing.assert_close(found, weight)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_rmsprop(momentum: float) -> None:
    spec = {"name": "rmsprop", "lr": 0.1, "alpha": 0.8, "momentum": momentum, "weight_decay": 0.01}
    start, found, gradients = three_steps(spec)
    weight, square, velocity = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for gradient in gradients:
        slope = gradient + 0.01 * weight
        square = 0.8 * square + 0.2 * slope**2
        velocity = momentum * velocity + slope / (square.sqrt() + 1e-8)
        weight = weight - 0.1 * velocity
    torch.testing.assert_close(found, weight)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw(decoupled: bool) -> None:
    name = "adamw" if decoupled else "adam"
    spec = {"name": name, "lr": 0.1, "betas": [0.5, 0.99], "weight_decay": 0.01}
    start, found, gradients = three_steps(spec)
    weight, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step, gradient in enumerate(gradients, 1):
        slope = gradient if decoupled else gradient + 0.01 * weight
        first = 0.5 * first + 0.5 * slope
        second = 0.99 * second + 0.01 * slope**2
        if decoupled:
            weight = weight * (1 - 0.1 * 0.01)
        weight = weight - 0.1 * (first / (1 - 0.5**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-8)
    torch.testing.assert_close(found, weight)


def test_only_devices_with_fused_kernels_are_fused() -> None:
    assert can_fuse([torch.nn.Parameter(torch.zeros(1))])
    assert not can_fuse([torch.nn.Parameter(torch.zeros(1, device="meta"))])


def test_what_is_quickened_moves_faster_and_decays_as_before() -> None:
    slow, fast, single = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    plain = {"name": "sgd", "lr": 0.1, "weight_decay": 0.3, "momentum": 0, "nesterov": False}
    optimizer = registry("optimizers").parse(plain).build([slow, fast])
    optimizer.add_param_group({"params": [single], "factor": 0.5})
    quicken(optimizer, [fast, single], by=8)
    assert [group.get("factor", 1) for group in optimizer.param_groups] == [1, 8, 4]
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group.get("factor", 1)
    (2 * (slow + fast + single)).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    torch.testing.assert_close(slow.data, torch.full((3,), 1 - 0.1 * (2 + 0.3)))
    torch.testing.assert_close(fast.data, torch.full((3,), 1 - 0.1 * (8 * 2 + 0.3)))
    torch.testing.assert_close(single.data, torch.full((3,), 1 - 0.05 * (8 * 2 + 0.3)))


def test_nothing_is_split_at_the_same_rate() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = registry("optimizers").parse("sgd").build([parameter])
    quicken(optimizer, [parameter], by=1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]
