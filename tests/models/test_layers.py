"""Layers of cells."""

from __future__ import annotations

import pytest
import torch

from nasdistill.models.layers import concatenated, strided


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_of_a_concatenation_have_no_gaps(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, width, 3, 4).contiguous(memory_format=layout).requires_grad_() for width in (2, 5)]
    seen: list[torch.Tensor] = []
    doubled = [part * 2 for part in parts]
    joined = concatenated(doubled)
    for part in doubled:
        part.register_hook(seen.append)
    assert torch.equal(joined, torch.cat(doubled, dim=1))
    weights = torch.randn_like(joined)
    (joined * weights).sum().backward()
    assert all(gradient.is_contiguous(memory_format=layout) for gradient in seen)
    assert torch.equal(torch.cat([part.grad for part in parts if part.grad is not None], dim=1), 2 * weights)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradient_of_every_other_pixel_lies_as_the_pixels_do(layout: torch.memory_format, first: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4).contiguous(memory_format=layout).requires_grad_()
    seen: list[torch.Tensor] = []
    doubled = x * 2
    doubled.register_hook(seen.append)
    chosen = strided(doubled, 2, first)
    assert torch.equal(chosen, doubled[:, :, first::2, first::2])
    (chosen * (weights := torch.randn_like(chosen))).sum().backward()
    (gradient,) = seen
    assert gradient.is_contiguous(memory_format=layout)
    expected = torch.zeros_like(x)
    expected[:, :, first::2, first::2] = weights
    assert torch.equal(gradient, expected)
