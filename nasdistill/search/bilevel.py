"""Gradients of the architecture in a bilevel problem, to first and second order.

Weights w minimise the training loss, the architecture alpha minimises the validation loss at the weights that it makes:

    min_alpha L_val(w*(alpha), alpha)   with   w*(alpha) = argmin_w L_train(w, alpha).

Losses are functions without arguments that read the tensors in place: `lambda: cross_entropy(network(x), y)`.

Source: Liu et al. 2019, DARTS, section 2.3, equations 5 to 8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

Tensors = Sequence[torch.Tensor]
Loss = Callable[[], torch.Tensor]
Combine = Callable[[Tensors], list[torch.Tensor]]
"""What is done to gradients before they are used, e.g. averaging over processes that each see a share of the batch."""


def gradients(loss: torch.Tensor, tensors: Tensors, combine: Combine = list) -> list[torch.Tensor]:
    """The gradient of `loss` for each of `tensors` and for nothing else; zeros for those that it does not read."""
    return combine(torch.autograd.grad(loss, tuple(tensors), allow_unused=True, materialize_grads=True))


@contextlib.contextmanager
def as_constants(tensors: Tensors) -> Iterator[None]:
    """Within this block losses read `tensors` as constants, so that no pass computes gradients for them."""
    for tensor in tensors:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in tensors:
            tensor.requires_grad_(True)


def second_order(
    training_loss: Loss,
    validation_loss: Loss,
    weights: Tensors,
    alphas: Tensors,
    *,
    learning_rate: float,
    velocities: Tensors,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    step: float = 0.01,
    combine: Combine = list,
) -> list[torch.Tensor]:
    """The gradient for alpha of L_val(w', alpha), where w' is one step of SGD with momentum from w:

        w' = w - learning_rate (momentum * velocity + grad_w L_train(w, alpha) + weight_decay * w)

        grad = grad_alpha L_val(w', alpha) - learning_rate * d/dalpha (grad_w L_train(w, alpha) . v)
        v = grad_w' L_val(w', alpha)

    with v held fixed. The second term is a product with a mixed Hessian, by central differences around w (not w'):

        (grad_alpha L_train(w + eps v, alpha) - grad_alpha L_train(w - eps v, alpha)) / (2 eps),   eps = step / ||v||

    Args:
        weights: w, changed while this runs and put back to the bit.
        learning_rate: of the step to w', commonly the present one.
        velocities: momentum buffers, one for each of `weights`.
        step: length of the step of the differences, over all weights together. It is small against a weight's own
            size, so losses must be computed in float32 at least: in bfloat16 the differences drown in rounding.

    Returns:
        one gradient for each of `alphas`.
    """
    before = [weight.detach().clone() for weight in weights]
    weight_gradients = gradients(training_loss(), weights, combine)
    with torch.no_grad():
        for weight, gradient, velocity in zip(weights, weight_gradients, velocities, strict=True):
            weight.sub_(learning_rate * (momentum * velocity + gradient + weight_decay * weight))
    both = gradients(validation_loss(), [*alphas, *weights], combine)
    direct, direction = both[: len(alphas)], both[len(alphas) :]

    # Where the validation loss is flat the direction is zero, and so are the differences whatever eps is.
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(direction)))
    eps = step / norm.clamp_min(torch.finfo(norm.dtype).tiny ** 0.5)
    shifted = []
    for shift in (eps, -eps):
        with torch.no_grad():
            for weight, value, towards in zip(weights, before, direction, strict=True):
                weight.copy_(value + shift * towards)
        with as_constants(weights):
            shifted.append(gradients(training_loss(), alphas, combine))
    with torch.no_grad():
        for weight, value in zip(weights, before, strict=True):
            weight.copy_(value)
    return [g - learning_rate * (a - b) / (2 * eps) for g, a, b in zip(direct, *shifted, strict=True)]
