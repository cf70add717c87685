"""Proxies against formulas written out for a network of two layers, in double precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.registry import registry
from nasdistill.search.proxies import PROXIES

Array = NDArray[np.float64]
IMAGES, INPUTS, HIDDEN, CLASSES = 6, 4, 20, 3


class TwoLayers(NamedTuple):
    """z = relu(x W1' + b1) W2' + b2, with its gradients by hand."""

    x: Array
    y: Array
    w1: Array
    b1: Array
    w2: Array
    b2: Array

    def hidden(self) -> Array:
        return self.x @ self.w1.T + self.b1

    def of_logits(self) -> Array:
        """dL/dz of the mean cross-entropy L."""
        logits = np.maximum(self.hidden(), 0) @ self.w2.T + self.b2
        likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return (likely - self.y) / len(self.x)

    def of_hidden(self) -> Array:
        found: Array = (self.of_logits() @ self.w2) * (self.hidden() > 0)
        return found

    def gradients(self) -> tuple[Array, Array]:
        return self.of_hidden().T @ self.x, self.of_logits().T @ np.maximum(self.hidden(), 0)

    def module(self) -> nn.Sequential:
        made = nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)).double()
        with torch.no_grad():
            for parameter, values in zip(made.parameters(), (self.w1, self.b1, self.w2, self.b2), strict=True):
                parameter.copy_(torch.from_numpy(values))
        return made

    def score(self, proxy: str, **options: object) -> float | None:
        images = torch.from_numpy(self.x).view(len(self.x), 1, 2, 2)
        labels = torch.from_numpy(self.y.argmax(1))
        found: float | None = PROXIES.parse({"name": proxy, **options}).score(self.module(), images, labels)
        return found


@pytest.fixture(scope="module")
def net() -> TwoLayers:
    random = np.random.default_rng(2)
    shapes = ((IMAGES, INPUTS), (HIDDEN, INPUTS), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,))
    x, w1, b1, w2, b2 = (random.standard_normal(shape) for shape in shapes)
    return TwoLayers(x, np.eye(CLASSES)[[0, 1, 2, 0, 1, 1]], w1, b1, w2, b2)


def grad_norm(net: TwoLayers) -> float:
    return sum(float(np.linalg.norm(g)) for g in net.gradients())


def snip(net: TwoLayers) -> float:
    return sum(float(np.abs(w * g).sum()) for w, g in zip((net.w1, net.w2), net.gradients(), strict=True))


def grasp(net: TwoLayers) -> float:
    """H g as the difference of gradients a little further and a little back along g."""
    first, second = net.gradients()
    step = 1e-5
    ahead = net._replace(w1=net.w1 + step * first, w2=net.w2 + step * second).gradients()
    back = net._replace(w1=net.w1 - step * first, w2=net.w2 - step * second).gradients()
    along = [(a - b) / (2 * step) for a, b in zip(ahead, back, strict=True)]
    return -sum(float((w * hg).sum()) for w, hg in zip((net.w1, net.w2), along, strict=True))


def zico(net: TwoLayers) -> float:
    parts = [net._replace(x=net.x[at], y=net.y[at]).gradients() for at in (slice(0, 2), slice(2, 4), slice(4, 6))]
    total = 0.0
    for layer in range(2):
        in_layer = 0.0
        for entry in np.ndindex(parts[0][layer].shape):
            values = [part[layer][entry] for part in parts]
            mean = sum(values) / 3
            variance = sum((value - mean) ** 2 for value in values) / 3
            if variance > 0:
                in_layer += sum(map(abs, values)) / 3 / variance**0.5
        total += np.log(in_layer)
    return total


def fisher(net: TwoLayers) -> float:
    total = 0.0
    logits = np.maximum(net.hidden(), 0) @ net.w2.T + net.b2
    for activation, gradient in ((net.hidden(), net.of_hidden()), (logits, net.of_logits())):
        total += float(((activation * gradient * IMAGES) ** 2).sum()) / (2 * IMAGES)
    return total


def synflow(net: TwoLayers) -> float:
    """By the sum over paths: from each input or bias through each weight."""
    w1, b1, w2 = np.abs(net.w1), np.abs(net.b1), np.abs(net.w2)
    through_first = float((w2 @ w1).sum())
    return through_first + float((w2 @ (w1.sum(axis=1) + b1)).sum())


def jacob_cov(net: TwoLayers) -> float:
    jacobian = ((net.hidden() > 0) * net.w2.sum(axis=0)) @ net.w1
    values = np.linalg.eigvalsh(np.corrcoef(jacobian))
    return -float(sum(np.log(v + 1e-5) + 1 / (v + 1e-5) for v in values))


def naswot(net: TwoLayers) -> float:
    on = net.hidden() > 0
    kernel = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in on] for one in on]
    return float(np.linalg.slogdet(np.array(kernel, dtype=float))[1])


@pytest.mark.parametrize("reference", [grad_norm, snip, grasp, fisher, synflow, jacob_cov, naswot])
def test_scores_are_those_of_the_formulas(reference: Callable[[TwoLayers], float], net: TwoLayers) -> None:
    assert net.score(reference.__name__.replace("_", "-")) == pytest.approx(reference(net), rel=1e-5)


def test_zico_is_that_of_the_formula(net: TwoLayers) -> None:
    assert net.score("zico", parts=3) == pytest.approx(zico(net), rel=1e-9)
    with pytest.raises(UserError, match="cannot make 7 parts of 6 images"):
        net.score("zico", parts=7)


def test_costs_are_counted(net: TwoLayers) -> None:
    assert net.score("params") == INPUTS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
    assert net.score("flops") == INPUTS * HIDDEN + HIDDEN * CLASSES


def test_the_order_of_a_proxy_can_be_turned_round(net: TwoLayers) -> None:
    assert net.score("snip", less_is_better=True) == -net.score("snip")


class Convolutions(nn.Module):
    """What the two layers lack: convolutions, batch norms, ReLUs in place and as functions, dropout, a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(3, 4, 3)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(4, 3)
        self.factors: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        factors = self.factors or [torch.ones((), dtype=images.dtype)] * 3
        maps = self.relu(self.norm(self.first(images) * factors[0]))
        features = functional.relu(self.second(maps) * factors[1]).mean(dim=(2, 3))
        logits: torch.Tensor = self.classifier(self.dropout(features)) * factors[2]
        return logits


@pytest.fixture
def convolutions() -> Convolutions:
    torch.manual_seed(0)
    return Convolutions().double()


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 1, 7, 7, generator=generator, dtype=torch.float64), torch.arange(8) % 3


def test_fisher_is_the_derivative_for_a_factor_on_each_channel_of_each_image(
    convolutions: Convolutions, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = batch
    convolutions.dropout.p = 0.0
    score = PROXIES.parse("fisher").score(convolutions, images, labels)
    shapes = ((8, 3, 1, 1), (8, 4, 1, 1), (8, 3))
    convolutions.factors = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    loss = functional.cross_entropy(convolutions(images), labels, reduction="sum")
    found = torch.autograd.grad(loss, convolutions.factors)
    assert score == pytest.approx(sum(float(g.square().sum()) for g in found) / 16, rel=1e-9)


def test_synflow_has_no_batch_norms_and_does_not_overflow(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = (batch[0].float(), batch[1])
    layers = [layer for _ in range(20) for layer in (nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())]
    network = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), *layers, nn.Flatten(), nn.Linear(4 * 49, 3, bias=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(-16.0)
    # Without biases all layers have the same flow: 49 pixels, 3 classes, 22 layers of 4 channels and weights of 16.
    expected = 22 * 49 * 3 * 4.0**21 * 16.0**22
    assert PROXIES.parse("synflow").score(network, images, labels) == pytest.approx(expected, rel=1e-12)
    assert expected > torch.finfo(torch.float32).max


@pytest.mark.parametrize("name", PROXIES.names())
def test_everything_stays_as_it_was(
    name: str, convolutions: Convolutions, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    convolutions.classifier.weight.requires_grad_(False)
    convolutions.second.eval()
    before, modes = copy.deepcopy(convolutions.state_dict()), [part.training for part in convolutions.modules()]
    random = torch.get_rng_state()
    score = PROXIES.parse(name).score(convolutions, *batch)
    assert score is not None
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in convolutions.state_dict().items())
    assert [part.training for part in convolutions.modules()] == modes
    assert all(parameter.grad is None for parameter in convolutions.parameters())
    assert not convolutions.classifier.weight.requires_grad
    assert convolutions.relu.inplace
    assert not any(part._forward_hooks or part._backward_hooks for part in convolutions.modules())
    torch.rand(3)
    assert PROXIES.parse(name).score(convolutions, *batch) == score


def test_naswot_sees_all_relus_however_they_are_written(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    class Functions(nn.Module):
        def __init__(self, relu: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            torch.manual_seed(4)
            self.layer, self.relu = nn.Linear(49, 12), relu

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.relu(self.layer(images.flatten(1).float()))

    kinds = (
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        functional.relu,
        functional.relu6,
        torch.relu,
        torch.relu_,
        torch.Tensor.relu,
    )
    scores = {PROXIES.parse("naswot").score(Functions(relu), *batch) for relu in kinds}
    assert len(scores) == 1
    assert None not in scores
    for other in (torch.tanh, nn.Hardtanh()):
        with pytest.raises(UserError, match="'naswot' compares which ReLUs are on, and this network has none"):
            PROXIES.parse("naswot").score(Functions(other), *batch)


@pytest.mark.parametrize("name", ["jacob-cov", "naswot"])
def test_a_network_that_does_not_see_the_images_has_no_score(
    name: str, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(49, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    nn.init.zeros_(network[1].weight)
    assert PROXIES.parse(name).score(network, *batch) is None


@pytest.mark.parametrize("name", PROXIES.names())
def test_binary_networks_are_refused(name: str) -> None:
    model = registry("models").parse({"name": "mlp", "hidden": [8, 8], "binary": "xnor"})
    network = NetworkSpec(model=model, shape=(1, 7, 7), classes=3).build()
    with pytest.raises(UserError, match=r"'hidden\.1\.0' is binary, and proxies are defined for real weights"):
        PROXIES.parse(name).score(network, torch.randn(4, 1, 7, 7), torch.arange(4) % 3)


@pytest.mark.parametrize("model", ["darts-v2-4-3", "wrn-10-1"])
def test_all_proxies_score_our_networks_in_single_precision(model: str) -> None:
    torch.manual_seed(0)
    network = NetworkSpec(model=registry("models").parse(model), shape=(1, 8, 8), classes=3).build()
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    for name in PROXIES.names():
        score = PROXIES.parse(name).score(network, images, labels)
        exact = PROXIES.parse(name).score(copy.deepcopy(network).double(), images.double(), labels)
        assert score == pytest.approx(exact, rel=0.02), name
