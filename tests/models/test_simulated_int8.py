"""8 bits in floats: against torch's own rounding, batch norms that are folded, and the exported network."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.exporters import EXPORTERS
from nasdistill.models.layers import SeparableConv
from nasdistill.models.portable import alone
from nasdistill.models.simulated_int8 import SimulatedInt8, rounded, rounded_weight


def test_values_and_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    step, zero = torch.tensor(0.03), 70
    ours, theirs = (torch.randn(1000, generator=torch.Generator().manual_seed(1)).mul(4) for _ in range(2))
    ours.requires_grad_()
    theirs.requires_grad_()
    found = rounded(ours, -zero * step, step, 255)
    expected = torch.fake_quantize_per_tensor_affine(theirs, float(step), zero, 0, 255)
    torch.testing.assert_close(found, expected)
    factors = torch.randn(1000)
    (found * factors).sum().backward()
    (expected * factors).sum().backward()
    assert ours.grad is not None
    assert 0 < (ours.grad == 0).sum() < 1000  # some values lie outside
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_each_output_channel_of_a_weight_has_a_scale() -> None:
    weight = torch.randn(6, 3, 3, 3) * torch.logspace(-2, 2, 6).view(6, 1, 1, 1)
    scales = weight.abs().flatten(1).amax(1) / 127
    expected = torch.fake_quantize_per_channel_affine(weight, scales, torch.zeros(6, dtype=torch.int32), 0, -127, 127)
    torch.testing.assert_close(rounded_weight(weight), expected)
    assert rounded_weight(torch.zeros(2, 3)).eq(0).all()


def test_weights_round_alike_before_a_batch_norm_is_folded_into_them_and_after() -> None:
    weight, factors = torch.randn(8, 4, 3, 3, dtype=torch.float64), torch.randn(8, 1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(rounded_weight(weight) * factors, rounded_weight(weight * factors))


@pytest.mark.parametrize(
    ("model", "off_by"),  # where layers follow each other, the smallest difference becomes one of whole levels
    [
        ("mlp-8", 0.05),
        ("wrn-10-1", 2),
        ("darts-v2-4-3", 2),
        pytest.param("torchvision:mobilenet_v2", 2, marks=pytest.mark.slow),
    ],
)
def test_it_answers_as_the_exported_network(tmp_path: Path, model: str, off_by: float) -> None:
    torch.manual_seed(0)
    spec = NetworkSpec(model=MODELS.parse(model), shape=(3, 16, 16), classes=3, normalisation=None)
    network = spec.build()
    images = torch.randn(64, 3, 16, 16)
    with torch.no_grad():
        for _ in range(40):  # so that batch norms know their statistics
            network(images)
    simulated = SimulatedInt8(copy.deepcopy(network), spec.shape).eval()
    simulated.calibrate(images.split(32))
    exporter = EXPORTERS.parse({"name": "onnx-int8", "least_agreement": 0})
    exporter.export(spec, network, tmp_path, images)
    with torch.no_grad():
        real, ours = alone(network)(images), simulated(images)
    exported = exporter.load(tmp_path / "network-int8.onnx")(images)
    lost = (exported - real).abs().mean()
    assert (ours - exported).abs().mean() < off_by * lost
    assert 0.5 < (ours - real).abs().mean() / lost < 2


def test_bf16_rounds_nothing_of_it() -> None:
    torch.manual_seed(0)
    network = MODELS.parse("wrn-10-1").build((3, 16, 16), 3)
    simulated, images = SimulatedInt8(network, (3, 16, 16)).eval(), torch.randn(8, 3, 16, 16)
    simulated.calibrate([images])
    with torch.autocast("cpu", torch.bfloat16):
        found = simulated(images)
    assert torch.equal(found, simulated(images))


def test_separable_convolutions_learn_with_rounded_weights() -> None:
    torch.manual_seed(0)
    layers = SeparableConv(4, 3, 1, affine=True)
    simulated = SimulatedInt8(layers, (4, 8, 8))
    images = torch.randn(16, 4, 8, 8)
    simulated.calibrate([images])
    found = simulated(images)
    found.square().sum().backward()

    def by_hand(values: torch.Tensor) -> torch.Tensor:
        for at, part in enumerate(plain):
            if isinstance(part, nn.Conv2d):
                point = sum(isinstance(before, nn.Conv2d) for before in plain[:at])
                values = simulated._rounded(point, values)
                weight = rounded_weight(part.weight)
                values = functional.conv2d(values, weight, None, part.stride, part.padding, 1, part.groups)
            else:
                values = part(values)
        return values

    plain = [copy.deepcopy(part) for part in layers]
    plain_of = dict(zip(plain, layers, strict=True))
    for part in plain:
        part.zero_grad()
    expected = by_hand(images)
    expected.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for part, ours in plain_of.items():
        for mine, theirs in zip(ours.parameters(), part.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-3)


def test_a_hard_swish_is_a_product_of_rounded_factors() -> None:
    torch.manual_seed(0)
    images = torch.randn(8, 2, 6, 6)
    simulated = SimulatedInt8(nn.Sequential(nn.Hardswish(inplace=True), nn.Conv2d(2, 3, 1)), (2, 6, 6)).eval()
    simulated.calibrate([images.clone()])
    _hard_swish, convolution = simulated.network
    values = simulated._rounded(0, images)
    values = simulated._rounded(2, values * simulated._rounded(1, functional.hardsigmoid(values)))
    expected = functional.conv2d(values, rounded_weight(convolution.weight), convolution.bias)
    torch.testing.assert_close(simulated(images.clone()), expected)


@pytest.mark.parametrize("times", [0, 2])
def test_a_network_that_computes_something_else_in_training_is_refused(times: int) -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            for _ in range(times if self.training else 1):
                values = self.layer(values)
            return values

    simulated = SimulatedInt8(Changing(), (3,))
    simulated.calibrate([torch.randn(2, 3)])
    with pytest.raises(UserError, match="other layers and sums in training than in use"):
        simulated.train()(torch.randn(2, 3))
