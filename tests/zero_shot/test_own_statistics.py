"""Statistics of batch norms with gradients in one pass, against finite differences and autograd."""

from __future__ import annotations

import pytest
import torch

from nasdistill.zero_shot.generator_losses.deep_inversion import OwnStatistics


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 4, 5)])
def test_gradients_of_own_statistics_are_those_of_finite_differences(shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(OwnStatistics.apply, features)


@pytest.mark.parametrize(("dtype", "exact"), [(torch.float32, 1e-4), (torch.bfloat16, 1e-2)])
def test_own_statistics_of_maps_far_from_zero_are_autograds(dtype: torch.dtype, exact: float) -> None:
    maps = (
        (torch.randn(6, 7, 5, 5, generator=torch.Generator().manual_seed(0)) + 20)
        .to(dtype)
        .to(memory_format=torch.channels_last)
        .requires_grad_()
    )
    far = torch.linspace(-1, 1, 7)
    found, expected = (
        torch.autograd.grad((mean - far).square().sum() + (variance - far).square().sum(), maps)[0]
        for mean, variance in (
            OwnStatistics.apply(maps),
            torch.var_mean(maps.float(), (0, 2, 3), correction=0)[::-1],
        )
    )
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=exact, atol=exact * float(expected.abs().max()))
