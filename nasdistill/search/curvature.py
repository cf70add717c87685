"""How sharp the validation loss is in the architecture: the dominant eigenvalue of its Hessian, and when it rose.

Source: Zela et al. 2020, Understanding and Robustifying Differentiable Architecture Search (arXiv:1909.09656).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import torch

STEP = 1e-7
"""So short, in float64, that hardly a ReLU changes its side on the way: the Hessian knows no kinks, while longer
differences measure little else."""
ITERATIONS = 30
TOLERANCE = 1e-3
WINDOW = 5
RATIO = 0.75


@torch.no_grad()
def dominant_eigenvalue(gradient: Callable[[], Sequence[torch.Tensor]], parameters: Sequence[torch.Tensor]) -> float:
    """The eigenvalue of largest magnitude of the Hessian H of a loss, by power iteration.

    H v is (g(a + s v) - g(a - s v)) / 2s with the gradient g at the parameters a, v of norm 1 and s = `STEP`, so that
    layers need a first derivative alone. It ends after `ITERATIONS`, or where two in a row differ by no more than
    `TOLERANCE` of the eigenvalue.

    Args:
        gradient: that of the loss for each parameter, where these stand when it is called.
        parameters: a, in float64; changed while this runs and put back to the bit.
    """
    before = [parameter.clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(a.shape, generator=generator, dtype=torch.float64).to(a) for a in before]
    eigenvalue = 0.0
    for _ in range(ITERATIONS):
        norm = torch.linalg.vector_norm(torch.stack([part.norm() for part in direction]))
        if norm == 0:
            break  # a flat loss
        direction = [part / norm for part in direction]
        ends = []
        for signed in (STEP, -STEP):
            for parameter, start, part in zip(parameters, before, direction, strict=True):
                parameter.copy_(start + signed * part)
            ends.append(gradient())
        product = [(one - other) / (2 * STEP) for one, other in zip(*ends, strict=True)]
        last = eigenvalue
        eigenvalue = sum(float((part * other).sum()) for part, other in zip(direction, product, strict=True))
        if abs(eigenvalue - last) <= TOLERANCE * abs(eigenvalue):
            break
        direction = product
    for parameter, start in zip(parameters, before, strict=True):
        parameter.copy_(start)
    return eigenvalue


def before_the_rise(eigenvalues: Sequence[float]) -> int | None:
    """The epoch to go back to, if the eigenvalue has risen.

    It is smoothed by the mean of `WINDOW` epochs around each, and has risen if what it was `WINDOW` epochs ago is less
    than `RATIO` of the latest mean. The released code compares by 1 / 1.3 every second epoch.

    Args:
        eigenvalues: after each epoch, from epoch 0 on.
    """
    if len(eigenvalues) < 2 * WINDOW:
        return None
    earlier, latest = fmean(eigenvalues[-2 * WINDOW : -WINDOW]), fmean(eigenvalues[-WINDOW:])
    return len(eigenvalues) - 2 * WINDOW + WINDOW // 2 if earlier < RATIO * latest else None
