"""Layers of cells."""

from __future__ import annotations

import pytest
import torch

from nasdistill.models.layers import concatenated


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
