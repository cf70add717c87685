"""Attention with its gradients in 16 bits on a processor: ours beside torch's fused kernel, in one run.

python -m benchmarks.attention --threads 1
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.common import Turn, arguments, compare, show, timed
from nasdistill.models.patches import attention

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
BASELINE = "torch's fused kernel"
SHAPES = ((64, 3, 64, 32), (64, 3, 65, 64), (16, 3, 197, 64), (4, 3, 577, 64))
"""Images, heads, patches, numbers of a head."""


def turn(computes: Attention, shape: tuple[int, ...]) -> Turn:
    """Forward and backward."""
    parts = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    slope = torch.randn(shape, dtype=torch.bfloat16)
    return timed(lambda: torch.autograd.grad(computes(*parts), parts, slope))


def main() -> None:
    options = arguments("attention in 16 bits").parse_args()
    rivals: dict[str, Attention] = {BASELINE: functional.scaled_dot_product_attention, "nasdistill": attention}
    show(
        [
            compare(
                f"{' x '.join(map(str, shape))}: images, heads, patches, numbers",
                {name: turn(computes, shape) for name, computes in rivals.items()},
                work=shape[0],
                baseline=BASELINE,
                options=options,
            )
            for shape in SHAPES
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
