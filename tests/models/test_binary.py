"""Binary layers against values by hand, a gradient in numpy and explicit loops; which layers become binary."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, UserError
from nasdistill.growth.plan import growable
from nasdistill.models.base import MODELS, NetworkSpec, load_network, save_network
from nasdistill.models.binarising import binarise
from nasdistill.models.binary import BinaryLayer, Form, filter_scale, make_binary, scaled_signs, signs
from nasdistill.models.inspection import count_parameters, inspect, layers, multiply_adds, size_bytes
from nasdistill.models.layers import Depthwise

FORMS: list[Form] = ["weights", "xnor"]


def spec_of(model: str, form: Form | None, shape: Shape = (1, 8, 8), classes: int = 10) -> NetworkSpec:
    return NetworkSpec(model=MODELS.parse({"name": model, "binary": form}), shape=shape, classes=classes)


def made(layer: nn.Module, form: Form) -> nn.Module:
    make_binary(layer, form)
    return layer


def test_signs_and_scales_by_hand() -> None:
    weight = torch.tensor([[0.5, -1.5, 0.0, 2.0], [-0.1, -0.3, 0.2, 0.4]])
    assert filter_scale(weight).tolist() == [[1.0], [0.25]]
    assert scaled_signs(weight).tolist() == [[1.0, -1.0, 1.0, 1.0], [-0.25, -0.25, 0.25, 0.25]]
    assert signs(torch.tensor([-2.0, -0.0, 0.0, 0.1])).tolist() == [-1.0, 1.0, 1.0, 1.0]


def test_the_scaled_signs_are_the_nearest_binary_filter() -> None:
    """Of all signs, with the best scale for each (a least-squares fit), none comes nearer to W."""
    weight = torch.randn(1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = float((weight - scaled_signs(weight)).square().sum())
    for each in itertools.product((-1.0, 1.0), repeat=6):
        other = torch.tensor([each], dtype=torch.float64)
        best = (weight * other).sum() / 6
        assert found <= float((weight - best * other).square().sum()) + 1e-12


def test_gradients_pass_straight_through() -> None:
    inputs = torch.tensor([-1.5, -1.0, -0.2, 0.0, 1.0, 1.01], requires_grad=True)
    (signs(inputs) * torch.arange(1.0, 7.0)).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]


def test_the_gradient_of_weights_is_the_papers() -> None:
    """dC/dW = dC/dW~ * (1/n + alpha * [|W| <= 1]), n = 2*3*3 values in a filter, in numpy."""
    random = np.random.default_rng(0)
    values, upstream = random.normal(size=(4, 2, 3, 3)), random.normal(size=(4, 2, 3, 3))
    weight = torch.tensor(values, requires_grad=True)
    (scaled_signs(weight) * torch.tensor(upstream)).sum().backward()
    expected = np.empty_like(values)
    for place in np.ndindex(values.shape):
        alpha = np.abs(values[place[0]]).sum() / 18
        expected[place] = upstream[place] * (1 / 18 + (alpha if abs(values[place]) <= 1 else 0.0))
    assert (np.abs(values) > 1).any()
    np.testing.assert_allclose(weight.grad, expected, rtol=1e-12)


def convolved(images: np.ndarray, weight: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """A convolution as its definition says; products with padding count as nothing."""
    count, channels, height, width = images.shape
    out, per_group, kernel, _ = weight.shape
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    result = np.zeros((count, out, rows, columns))
    for image, filter_, row, column in np.ndindex(result.shape):
        first = filter_ // (out // groups) * (channels // groups)
        for channel, i, j in np.ndindex(per_group, kernel, kernel):
            y, x = row * stride + i - padding, column * stride + j - padding
            if 0 <= y < height and 0 <= x < width:
                pixel = images[image, first + channel, y, x]
                result[image, filter_, row, column] += weight[filter_, channel, i, j] * pixel
    return result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, 0, 2), (2, 1, 4)])
def test_a_binary_convolution_by_an_explicit_loop(form: Form, stride: int, padding: int, groups: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, stride, padding, groups=groups).double()
    weight, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
    images = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    read = images.numpy()
    if form == "xnor":  # a batch norm in training mode, then signs
        centred = read - read.mean(axis=(0, 2, 3), keepdims=True)
        read = np.where(centred >= 0, 1.0, -1.0)
    alpha = np.abs(weight).mean(axis=(1, 2, 3), keepdims=True)
    expected = convolved(read, np.where(weight >= 0, alpha, -alpha), stride, padding, groups)
    found = made(layer, form)(images).detach().numpy()
    np.testing.assert_allclose(found, expected + bias[:, None, None], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_depthwise_layer_of_a_search_space_is_a_binary_convolution(stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = Depthwise(3, 3, stride, dilation)
    plain = nn.Conv2d(3, 3, 3, stride, dilation, dilation, groups=3, bias=False)
    plain.load_state_dict(layer.state_dict())
    images = torch.randn(2, 3, 8, 8)
    expected, found = made(plain, "weights")(images), made(layer, "weights")(images)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)])
def test_a_binary_linear_layer_norms_its_last_dimension(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4).double()
    weight, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
    inputs = torch.randn(shape, dtype=torch.float64) + 3
    rows = inputs.numpy().reshape(-1, 6)
    read = np.where(rows >= rows.mean(axis=0), 1.0, -1.0)
    alpha = np.abs(weight).mean(axis=1, keepdims=True)
    expected = read @ np.where(weight >= 0, alpha, -alpha).T + bias
    found = made(layer, "xnor")(inputs).detach().numpy()
    np.testing.assert_allclose(found, expected.reshape(*shape[:-1], 4), rtol=1e-12)


ENDS = [
    ("wrn-10-1", (1, 8, 8), {"stem", "classifier"}),
    ("resnet-8", (1, 8, 8), {"stem", "classifier"}),
    ("densenet-10-4", (1, 8, 8), {"stem", "classifier"}),
    ("darts-v2-4-3", (1, 8, 8), {"stem.0", "classifier"}),
    ("mlp-8-8", (1, 8, 8), {"hidden.0.0", "classifier"}),
    ("torchvision:resnet18", (3, 32, 32), {"conv1", "fc"}),
    ("torchvision:squeezenet1_1", (3, 32, 32), {"features.0", "classifier.1"}),
]


@pytest.mark.parametrize(("model", "shape", "real"), ENDS)
def test_all_layers_are_binary_but_the_first_and_the_last(model: str, shape: Shape, real: set[str]) -> None:
    torch.manual_seed(0)
    drawn = spec_of(model, None, shape).build().state_dict()
    torch.manual_seed(0)
    spec = spec_of(model, "xnor", shape)
    network = spec.build()
    products = {path: part for path, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert {path for path, part in products.items() if not isinstance(part, BinaryLayer)} == real
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in drawn.items())  # names and values stay
    assert {name.split(".")[-2] for name in state.keys() - drawn.keys()} == {"norm"}
    logits = network(torch.randn(3, *shape))
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    found = layers(network, shape)
    assert sum(layer.parameters for layer in found) == count_parameters(network)
    assert sum(layer.multiply_adds for layer in found) == multiply_adds(network, shape)
    assert multiply_adds(network, shape) == multiply_adds(spec_of(model, None, shape).build(), shape)


def test_an_auxiliary_head_stays_real() -> None:
    model = {"name": "darts-v2-4-3", "auxiliary": True, "binary": "xnor"}
    network = NetworkSpec(model=model, shape=(1, 8, 8), classes=3).build()
    assert not any(isinstance(part, BinaryLayer) for part in network.get_submodule("auxiliary").modules())


def test_both_classifiers_of_a_distilled_transformer_stay_real() -> None:
    model = {"name": "vit-12-1", "distillation_token": True, "binary": "xnor"}
    network = NetworkSpec(model=model, shape=(1, 8, 8), classes=3).build()
    products = {path: part for path, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    real = {path for path, part in products.items() if not isinstance(part, BinaryLayer)}
    assert real == {"embedding", "token_classifier", "classifier"}


class Attentive(nn.Module):
    """Attention's own projection is never called as a module, so nobody could make it binary."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.between(self.first(images.flatten(2)))
        return self.last(self.attention(features, features, features)[0].mean(dim=1))


def test_what_does_not_run_as_a_layer_stays_real() -> None:
    network = Attentive()
    binarise(network, (3, 2, 2), "xnor")
    assert [path for path, part in network.named_modules() if isinstance(part, BinaryLayer)] == ["between"]


@pytest.mark.parametrize("model", ["mlp-8", {"name": "mlp", "hidden": []}])
def test_a_network_without_layers_between_is_refused(model: object) -> None:
    options = {"name": model} if isinstance(model, str) else model
    spec = NetworkSpec(model={**options, "binary": "xnor"}, shape=(1, 2, 2), classes=2)
    with pytest.raises(SpecError, match=r"nothing to make binary: .* stay real, and between them"):
        spec.build()


def test_another_form_is_refused() -> None:
    with pytest.raises(SpecError, match="'weights' or 'xnor', got 'signs'") as caught:
        MODELS.parse({"name": "wrn-10-1", "binary": "signs"})
    assert caught.value.path == ("binary",)


def test_a_binary_network_does_not_grow() -> None:
    with pytest.raises(UserError, match="a binary network cannot grow: grow the full-precision network"):
        growable(spec_of("darts-v2-4-3", "weights"))


@pytest.mark.parametrize("form", FORMS)
def test_saved_and_loaded(tmp_path: Path, form: Form) -> None:
    spec = spec_of("resnet-8", form)
    network = spec.build()
    network(torch.randn(8, 1, 8, 8))
    save_network(tmp_path, spec, network)
    read, loaded = load_network(tmp_path)
    images = torch.randn(4, 1, 8, 8)
    assert read == spec
    assert torch.equal(loaded(images), network.eval()(images))


def test_specs_of_real_models_are_as_before() -> None:
    assert "binary" not in MODELS.parse("wrn-16-1").spec()
    assert MODELS.parse({"name": "wrn-16-1", "binary": "xnor"}).spec()["binary"] == "xnor"


def test_bytes_by_hand() -> None:
    """784-100 and 100-10 in floats; twice 100-100 in bits, with 100 scales and biases each; xnor's norms on top."""
    real = 4 * (784 * 100 + 100 + 100 * 10 + 10)
    binary = 2 * (100 * 100 // 8 + 4 * 100 + 4 * 100)
    norms = 2 * (4 * 4 * 100 + 8)  # scale, shift, mean, variance, and a counter of 8 bytes
    for form, expected in (("weights", real + binary), ("xnor", real + binary + norms)):
        spec = spec_of("mlp-100-100-100", form, (1, 28, 28))
        network = spec.build()
        assert size_bytes(network) == expected
        assert inspect(network, spec.shape, spec.classes).to_json()["bytes"] == expected


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_channels_last_and_double_agree(form: Form) -> None:
    """Signs are exact in bfloat16, so a layer's outputs are off by the rounding of scale and sum alone."""
    torch.manual_seed(0)
    layer = made(nn.Conv2d(8, 8, 3, padding=1), form).eval()
    images = torch.randint(-2, 3, (2, 8, 6, 6)).float() + 0.25
    exact = layer.double()(images.double()).detach()
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        half = layer.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    assert half.dtype == torch.bfloat16
    assert torch.allclose(layer(images).double(), exact, atol=1e-5)
    assert (half.double() - exact).abs().max().item() < 0.02 * exact.abs().max().item()


def test_a_tiny_xnor_network_learns_two_blobs() -> None:
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    images = torch.randn(64, 1, 2, 2) + (labels * 4 - 2).view(-1, 1, 1, 1) * torch.tensor([1.0, -1, -1, 1]).view(2, 2)
    network = spec_of("mlp-16-16", "xnor", (1, 2, 2), 2).build()
    hidden = network.get_submodule("hidden.1.0").get_parameter("weight")
    before = (hidden >= 0).clone()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert ((hidden >= 0) != before).any()  # signs turn over
