"""Batch norm over the shares of several processes, beside torch's own over the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasdistill.training.processes import all_gather, all_reduce_max, all_reduce_sum, refuse_difference, world_size
from nasdistill.training.synchronised import (
    SynchronisedStatistics,
    keep_statistics_from_ddp,
    own_statistics,
    synchronised_batch_norm,
)
from tests.children import InAChild
from tests.together import torchrun
from tests.training.shared_norm import problem, solve


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("norm")
    torchrun("tests.training.shared_norm", folder)
    return [load_file(folder / f"rank-{rank}") for rank in range(2)]


@pytest.mark.parametrize("affine", [False, True])
def test_uneven_shares_give_what_the_whole_batch_gives(shares: list[dict[str, torch.Tensor]], affine: bool) -> None:
    """Outputs, gradients of the images, of scale and shift, and running statistics, in double precision."""
    whole = solve(*problem(affine))
    ours = [{name: share[f"{affine}.{name}"] for name in whole} for share in shares]
    for name, expected in whole.items():
        pieces = [share[name] for share in ours]
        if name in ("output", "slope"):
            found = torch.cat(pieces)
        elif name.startswith("gradient"):
            found = sum(pieces[1:], pieces[0])  # whoever trains adds them up
        else:
            assert torch.equal(*pieces), "statistics are the same in both"
            found = pieces[0]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=lambda told, name=name: f"{name}: {told}")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_statistics_of_any_type_are_those_of_the_values_in_double_precision(dtype: torch.dtype, device: str) -> None:
    torch.manual_seed(0)
    x = (3 + torch.randn(8, 5, 6, 7)).to(dtype).to(memory_format=torch.channels_last)
    mean, variance = (found.cpu() for found in own_statistics(x.to(device)))
    assert mean.dtype == variance.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    of_channels = x.double().transpose(0, 1).flatten(1)
    error = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(mean.double(), of_channels.mean(1), rtol=error, atol=0)
    torch.testing.assert_close(variance.double(), of_channels.var(1, correction=0), rtol=100 * error, atol=0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    """Alone, a process has the whole batch."""
    torch.manual_seed(0)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def normalised(*inputs: torch.Tensor) -> torch.Tensor:
        x, weight, bias = inputs
        return synchronised_batch_norm(x, None, None, weight, bias, 0.1, 1e-5)

    assert torch.autograd.gradcheck(normalised, (x, weight, bias))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_half_precision_keeps_its_type_layout_and_sums_in_single(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 8, 16, 16).to(memory_format=layout)
    ours, theirs = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
    halves = [images.bfloat16().requires_grad_() for _ in range(2)]
    with SynchronisedStatistics():
        output = ours(halves[0])
    expected = theirs(halves[1])
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=layout)
    for each in (output, expected):
        each.float().pow(3).sum().backward()
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(halves[0].grad, halves[1].grad, rtol=0.02, atol=0.05)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


class AsCudaWants(TorchDispatchMode):
    """Refuses what CUDA's kernel for gradients through given statistics does: what is optional for a CPU's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_batch_norm_backward.default:
            assert all(isinstance(each, torch.Tensor) for each in args[:7])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [False, True])
def test_gradients_are_torchs_own_on_any_device(
    affine: bool, dtype: torch.dtype, layout: torch.memory_format, device: str
) -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 8, 16, 16, device=device).to(dtype, memory_format=layout)
    norms = [nn.BatchNorm2d(8, affine=affine).to(device) for _ in range(2)]
    ours, theirs = (images.clone().requires_grad_() for _ in norms)
    with SynchronisedStatistics(), AsCudaWants():
        norms[0](ours).float().pow(3).sum().backward()
    norms[1](theirs).float().pow(3).sum().backward()
    error = {"rtol": 0.02, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(ours.grad, theirs.grad, **error)
    for one, other in zip(norms[0].parameters(), norms[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1)


def test_ddp_sends_other_buffers_alone(in_a_child: InAChild) -> None:
    def act() -> None:
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        module = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3)))
        module.register_buffer("other", torch.ones(1))
        keep_statistics_from_ddp(module)
        assert [id(buffer) for buffer in nn.parallel.DistributedDataParallel(module).modules_buffers] == [
            id(module.other)
        ]

    assert in_a_child(act) == 0


def test_alone_a_process_agrees_with_itself() -> None:
    numbers = torch.arange(3)
    assert world_size() == 1
    assert all_reduce_sum(numbers).tolist() == [0, 1, 2]
    assert all_gather(numbers).tolist() == [[0, 1, 2]]
    assert all_reduce_max(4, 1) == [4, 1]
    refuse_difference([numbers], "nothing")
