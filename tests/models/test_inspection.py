"""Counts against closed forms and against what torchvision publishes; networks stay as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.inspection import (
    count_parameters,
    feature_points,
    inspect,
    latency_ms,
    layers,
    multiply_adds,
    size_bytes,
)


def wrn_multiply_adds(depth: int, width: int, shape: Shape, classes: int) -> int:
    """Sum over the convolutions of out * in * k * k * pixels, and the linear layer."""
    blocks = (depth - 4) // 6
    pixels = shape[1] * shape[2]
    total, before = 16 * shape[0] * 9 * pixels, 16
    for group, after in enumerate((16 * width, 32 * width, 64 * width)):
        if group:
            pixels //= 4
        for _ in range(blocks):
            total += (before * after * 9 + after * after * 9 + (before * after if before != after else 0)) * pixels
            before = after
    return total + before * classes


@pytest.mark.parametrize(("depth", "width"), [(16, 1), (16, 2), (40, 1)])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8)])
def test_multiply_adds_of_a_wrn(depth: int, width: int, shape: Shape) -> None:
    network = MODELS.parse(f"wrn-{depth}-{width}").build(shape, 10)
    assert multiply_adds(network, shape) == wrn_multiply_adds(depth, width, shape, 10)


def test_multiply_adds_of_grouped_and_strided_convolutions() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert multiply_adds(network, (4, 8, 8)) == 8 * 16 * 1 * 9 + 8 * 16 * 5


@pytest.mark.parametrize("name", ["ResNet18", "MobileNet_V2", "ViT_B_32"])
def test_counts_that_torchvision_publishes(name: str) -> None:
    meta = next(iter(getattr(torchvision.models, f"{name}_Weights"))).meta
    network = torchvision.models.get_model(name.lower(), weights=None)
    assert count_parameters(network) == meta["num_params"]
    assert multiply_adds(network, (3, 224, 224)) / 1e9 == pytest.approx(meta["_ops"], abs=0.002)


def encoder_multiply_adds(tokens: int, width: int, inner: int) -> int:
    """Four projections, the products with keys and with values, and two linear layers."""
    return 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_multiply_adds_of_a_vision_transformer(device: str) -> None:
    """Dosovitskiy et al. 2021, ViT-B/32: 12 layers, width 768, MLP 3072; 49 patches of 3x32x32 and the class token."""
    with torch.device(device):
        network = torchvision.models.vit_b_32()
        expected = 49 * 768 * 3 * 32 * 32 + 12 * encoder_multiply_adds(50, 768, 3072) + 768 * 1000
        assert multiply_adds(network, (3, 224, 224)) == expected


class OfSequence(nn.Module):
    """A layer on the rows of the image as a sequence [N, T, C]."""

    def __init__(self, layer: nn.Module, arguments: int = 1) -> None:
        super().__init__()
        self.layer = layer
        self.arguments = arguments

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(*[x[:, 0]] * self.arguments)
        return out[0] if isinstance(out, tuple) else out


class QueriedBy16(nn.Module):
    """A score of each row, then products of vectors and a sum with one, as pooling by a query has them."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x @ self.query
        return torch.addmv(scores[0], scores.expand(5, 5), scores[0]) @ scores[0]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("layer", "arguments", "expected"),
    [
        (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1, encoder_multiply_adds(5, 16, 32)),
        (lambda: nn.MultiheadAttention(16, 4, batch_first=True), 3, encoder_multiply_adds(5, 16, 0)),
        # gates * (inputs + state) * state; two directions, and the second layer reads both
        (lambda: nn.LSTM(16, 8, 2, batch_first=True, bidirectional=True), 1, 5 * 4 * 2 * 8 * (16 + 8 + 16 + 8)),
        (lambda: nn.GRU(16, 8, batch_first=True), 1, 5 * 3 * 8 * (16 + 8)),
        (lambda: nn.Bilinear(16, 16, 3), 2, 5 * (3 * 16 * 16 + 3 * 16)),
        (QueriedBy16, 1, 5 * 16 + 5 * 5 + 5),
    ],
    ids=["encoder", "attention", "lstm", "gru", "bilinear", "vectors"],
)
def test_multiply_adds_of_what_torch_fuses(
    layer: Callable[[], nn.Module], arguments: int, expected: int, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.device(device):
        assert multiply_adds(OfSequence(layer(), arguments), (1, 5, 16)) == expected
    assert not caplog.records


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.ones(3, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cdist(x.flatten(1), self.centres)


def test_an_operation_without_a_formula_is_named(caplog: pytest.LogCaptureFixture) -> None:
    multiply_adds(Distances(), (1, 4, 4))
    assert "no multiply-adds are counted for aten._cdist_forward" in caplog.text


class InInferenceMode(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return super().forward(x)


def test_what_torch_leaves_whole_in_inference_mode_is_taken_apart(caplog: pytest.LogCaptureFixture) -> None:
    assert multiply_adds(InInferenceMode(5, 3), (1, 1, 5)) == 5 * 3
    assert not caplog.records


def test_shared_parameters_count_once() -> None:
    linear = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(linear, linear)) == 12
    assert size_bytes(nn.Sequential(linear, linear)) == 12 * 4


def test_size_is_parameters_and_statistics() -> None:
    """Conv 2*1*9 floats; BN 2 weights, 2 biases, 2 means, 2 variances, and one 8-byte counter."""
    assert size_bytes(nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))) == (18 + 8) * 4 + 8


class WithAuxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 2)
        self.auxiliary = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.trunk(x.flatten(1)) + self.auxiliary(x.flatten(1))
        return self.trunk(x.flatten(1))


def test_the_auxiliary_head_counts_in_nothing() -> None:
    network = WithAuxiliary().train()
    assert count_parameters(network) == 10
    assert size_bytes(network) == 40
    assert multiply_adds(network, (1, 2, 2)) == 8
    assert [layer.path for layer in layers(network, (1, 2, 2))] == ["trunk"]


def test_the_auxiliary_head_of_a_searched_network_counts_in_nothing() -> None:
    with_head = NetworkSpec(model={"name": "darts-v2-4-3", "auxiliary": True}, shape=(3, 16, 16), classes=10)
    without = NetworkSpec(model="darts-v2-4-3", shape=(3, 16, 16), classes=10)
    network = with_head.build()
    assert sum(parameter.numel() for parameter in network.parameters()) > count_parameters(network)
    found, expected = (inspect(net, (3, 16, 16), 10) for net in (network, without.build()))
    assert found == expected


class Fickle(nn.Module):
    """Draws random numbers and counts its calls, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("latest", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.latest = x.max() + 1
        return self.dropout(self.norm(x + torch.rand_like(x))).flatten(1)


def test_inspecting_changes_nothing() -> None:
    network = Fickle().train()
    network.dropout.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    count_parameters(network)
    multiply_adds(network, (1, 4, 4))
    feature_points(network, (1, 4, 4))
    layers(network, (1, 4, 4))
    latency_ms(network, (1, 4, 4), seconds=0.01)
    assert (network.training, network.norm.training, network.dropout.training) == (True, True, False)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not network._forward_hooks
    assert not network.norm._forward_pre_hooks


def test_layers_tell_where_the_cost_lies() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    found = layers(network, (1, 4, 4))
    assert [(layer.path, layer.kind, layer.output, layer.parameters, layer.multiply_adds) for layer in found] == [
        ("0", "Conv2d", (2, 4, 4), 20, 2 * 9 * 16),
        ("1", "ReLU", (2, 4, 4), 0, 0),
        ("2", "Flatten", (32,), 0, 0),
        ("3", "Linear", (3,), 99, 96),
    ]


@pytest.mark.parametrize("name", ["wrn-16-1", "densenet-10-4", "resnet-8", "mlp-7"])
def test_layers_add_up_to_the_network(name: str) -> None:
    network = MODELS.parse(name).build((3, 16, 16), 10)
    found = layers(network, (3, 16, 16))
    assert sum(layer.parameters for layer in found) == count_parameters(network)
    assert sum(layer.multiply_adds for layer in found) == multiply_adds(network, (3, 16, 16))


def test_feature_points_of_networks_that_declare_none() -> None:
    resnet = torchvision.models.resnet18(num_classes=3)
    assert feature_points(resnet, (3, 224, 224)) == ("relu", "layer1", "layer2", "layer3", "layer4")
    plain = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(32, 3)
    )
    assert feature_points(plain, (1, 8, 8)) == ("1", "3")
    assert feature_points(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2)) == ()


def test_feature_points_do_not_take_channels_last_maps_for_images() -> None:
    points = feature_points(torchvision.models.swin_t(num_classes=3), (3, 224, 224))
    assert points == ("features.0.0", "permute")


def test_latency_grows_with_the_work() -> None:
    small = MODELS.parse("mlp-8").build((3, 32, 32), 10)
    large = MODELS.parse("wrn-16-2").build((3, 32, 32), 10)
    assert 0 < latency_ms(small, (3, 32, 32), 0.05) < latency_ms(large, (3, 32, 32), 0.05)


def test_the_json_has_the_documented_keys() -> None:
    spec = NetworkSpec(model="wrn-16-1", shape=(3, 32, 32), classes=10)
    inspection = inspect(spec.build(), spec.shape, spec.classes)
    assert inspection.to_json() == {
        "parameters": 175_066,
        "multiply_adds": wrn_multiply_adds(16, 1, (3, 32, 32), 10),
        # Thirteen norms of 464 channels: a mean and a variance per channel, and a counter of 8 bytes each.
        "bytes": 4 * (175_066 + 2 * 464) + 8 * 13,
        "input": [3, 32, 32],
        "classes": 10,
        "feature_points": ["groups.0", "groups.1", "groups.2"],
    }
    assert len(inspection.layers) == len({layer.path for layer in inspection.layers})


def test_latency_is_that_of_one_thread() -> None:
    seen = set()

    class Watching(nn.Identity):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.add(torch.get_num_threads())
            return images

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        latency_ms(Watching(), (1, 2, 2), seconds=0.01)
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)
