"""The architecture gradients against autograd through the unrolled step."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from nasdistill.search.bilevel import gradients, second_order

RATE, MOMENTUM, DECAY = 0.1, 0.9, 3e-2


class SmoothNet(torch.nn.Module):
    """Two layers whose hidden units are a softmax mixture of three smooth functions: a tiny, smooth supernet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(4, 6)
        self.second = torch.nn.Linear(6, 3)
        self.alpha = torch.nn.Parameter(torch.randn(6, 3))
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        choices = torch.stack([x.tanh(), x.sin(), 0.3 * x**2], dim=-1)
        hidden: torch.Tensor = (choices * self.alpha.softmax(dim=-1)).sum(dim=-1)
        logits: torch.Tensor = self.second(hidden)
        return logits


class Problem:
    def __init__(self) -> None:
        self.network = SmoothNet()
        generator = torch.Generator().manual_seed(1)
        self.batches = [
            (torch.randn(20, 4, dtype=torch.double, generator=generator), torch.randint(3, (20,), generator=generator))
            for _ in range(2)
        ]
        self.names = [name for name, _ in self.network.named_parameters() if name != "alpha"]
        self.weights = [self.network.get_parameter(name) for name in self.names]
        self.velocities = [
            torch.randn(weight.shape, dtype=torch.double, generator=generator) for weight in self.weights
        ]

    def loss(self, half: int, weights: list[torch.Tensor] | None = None) -> torch.Tensor:
        images, labels = self.batches[half]
        changed = {} if weights is None else dict(zip(self.names, weights, strict=True))
        return functional.cross_entropy(functional_call(self.network, changed, (images,)), labels)

    def exact(self) -> torch.Tensor:
        """d/dalpha of L_val(w'(alpha), alpha), by autograd through the step of SGD."""
        gradients = torch.autograd.grad(self.loss(0), self.weights, create_graph=True)
        stepped = [
            w - RATE * (MOMENTUM * velocity + gradient + DECAY * w)
            for w, gradient, velocity in zip(self.weights, gradients, self.velocities, strict=True)
        ]
        return torch.autograd.grad(self.loss(1, stepped), self.network.alpha)[0]

    def approximate(self, step: float) -> torch.Tensor:
        (gradient,) = second_order(
            lambda: self.loss(0),
            lambda: self.loss(1),
            self.weights,
            [self.network.alpha],
            learning_rate=RATE,
            velocities=self.velocities,
            momentum=MOMENTUM,
            weight_decay=DECAY,
            step=step,
        )
        return gradient


def relative(value: torch.Tensor, exact: torch.Tensor) -> float:
    return float((value - exact).norm() / exact.norm())


def test_gradients_are_plain_autograd() -> None:
    problem = Problem()
    problem.loss(1).backward()
    (gradient,) = gradients(problem.loss(1), [problem.network.alpha])
    torch.testing.assert_close(gradient, problem.network.alpha.grad, rtol=0, atol=0)


def test_gradients_touch_no_weight_gradient() -> None:
    problem = Problem()
    gradients(problem.loss(1), [problem.network.alpha])
    assert all(parameter.grad is None for parameter in problem.network.parameters())


def test_second_order_agrees_with_autograd_through_the_unrolled_step() -> None:
    problem = Problem()
    exact = problem.exact()
    assert relative(problem.approximate(0.01), exact) < 1e-2
    # The second-order term is what is tested: without it the error is far larger.
    (first,) = gradients(problem.loss(1), [problem.network.alpha])
    assert relative(first, exact) > 0.05


def test_the_error_of_the_differences_falls_with_the_square_of_their_step() -> None:
    problem = Problem()
    exact = problem.exact()
    errors = [relative(problem.approximate(step), exact) for step in (0.4, 0.2, 0.1)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_the_weights_are_put_back_to_the_bit() -> None:
    problem = Problem()
    before = [weight.detach().clone() for weight in problem.weights]
    problem.approximate(0.01)
    assert all(torch.equal(weight, kept) for weight, kept in zip(problem.weights, before, strict=True))


def test_a_flat_validation_loss_leaves_no_second_order_term() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    alpha = torch.tensor([3.0], requires_grad=True)
    (gradient,) = second_order(
        lambda: (weight * alpha).sum(),
        lambda: alpha.square().sum(),
        [weight],
        [alpha],
        learning_rate=0.1,
        velocities=[torch.zeros(2)],
    )
    assert gradient.tolist() == [6.0]


def test_gradients_are_combined_before_they_are_used() -> None:
    """Two processes that average their gradients see the gradient of the mean loss."""
    problem = Problem()
    doubled = gradients(problem.loss(1), [problem.network.alpha], lambda parts: [2 * part for part in parts])
    (plain,) = gradients(problem.loss(1), [problem.network.alpha])
    torch.testing.assert_close(doubled[0], 2 * plain)
