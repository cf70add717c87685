"""Torchvision's classifiers through our registry."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import count_parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_689_512), ("mobilenet_v2", 3_504_872), ("squeezenet1_1", 1_235_496)],
)
def test_published_parameter_counts(name: str, parameters: int) -> None:
    network = MODELS.parse(f"torchvision:{name}").build((3, 224, 224), 1000)
    assert count_parameters(network) == parameters
    assert type(network) is type(torchvision.models.get_model(name))


@pytest.mark.parametrize(
    "name", ["convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "regnet_x_400mf", "swin_t", "vit_b_16"]
)
def test_families_read_small_grey_images(name: str) -> None:
    network = MODELS.parse(f"torchvision:{name}").build((1, 32, 32), 5).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 1, 32, 32)).shape == (2, 5)


def test_a_replaced_first_convolution_keeps_the_scale_of_the_output() -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 1, 32, 32)
    one = MODELS.parse("torchvision:resnet18").build((1, 32, 32), 5).get_submodule("conv1")
    three = MODELS.parse("torchvision:resnet18").build((3, 32, 32), 5).get_submodule("conv1")
    assert isinstance(one, nn.Conv2d)
    colour = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        assert float(one(images).std()) == pytest.approx(float(three(colour).std()), rel=0.05)
    assert (one.kernel_size, one.stride, one.padding) == ((7, 7), (2, 2), (3, 3))
    assert one.bias is None


def test_mobilenets_exist_in_any_width() -> None:
    options = {"name": "torchvision", "architecture": "mobilenet_v3_small", "width_multiplier": 0.43}
    network = MODELS.parse(options).build((3, 64, 64), 5)
    assert count_parameters(network) == 298_189
    with pytest.raises(SpecError, match="resnet18 has one width; those of any width are mobilenet_v2, "):
        MODELS.parse({**options, "architecture": "resnet18"})
    with pytest.raises(SpecError, match="give a file of your own"):
        MODELS.parse({**options, "pretrained": True})


@pytest.mark.parametrize(
    ("name", "stem", "parameters"), [("resnet50", 3, 23_705_252), ("shufflenet_v2_x1_0", 1, 1_355_528)]
)
def test_a_stem_for_small_images_keeps_the_resolution(name: str, stem: int, parameters: int) -> None:
    model = MODELS.parse({"name": "torchvision", "architecture": name, "stem": stem})
    network = model.build((3, 32, 32), 100)
    assert count_parameters(network) == parameters
    sides = []
    network.get_submodule("maxpool").register_forward_hook(lambda _m, _i, output: sides.append(output.shape[2:]))
    network.eval()(torch.zeros(1, 3, 32, 32))
    assert sides == [(32, 32)]


@pytest.mark.parametrize(
    ("architecture", "stem", "why"),
    [("vgg11_bn", 3, "no stem of convolution and pooling"), ("resnet18", 4, "an odd side, not 4")],
)
def test_a_stem_that_there_is_not_is_refused(architecture: str, stem: int, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        MODELS.parse({"name": "torchvision", "architecture": architecture, "stem": stem})


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(SpecError, match="no classifier 'resnet81'; did you mean 'resnet18'"):
        MODELS.parse("torchvision:resnet81")
    with pytest.raises(SpecError, match=r"no classifier 'zzz'; it has \d+, from 'alexnet'"):
        MODELS.parse("torchvision:zzz")


def test_a_detector_is_no_classifier() -> None:
    with pytest.raises(SpecError, match="no classifier 'fasterrcnn_resnet50_fpn'"):
        MODELS.parse("torchvision:fasterrcnn_resnet50_fpn")


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        ("alexnet", (3, 32, 32), "too small"),
        ("vit_b_16", (3, 32, 48), "square"),
        ("vit_b_16", (1, 28, 28), "patch size"),
    ],
)
def test_a_shape_that_a_network_cannot_read_is_refused(name: str, shape: tuple[int, int, int], why: str) -> None:
    with pytest.raises(UserError, match=f"torchvision:{name} does not exist for images of .*{why}"):
        MODELS.parse(f"torchvision:{name}").build(shape, 10)


def test_feature_points_are_the_outer_modules_before_each_loss_of_resolution() -> None:
    network = MODELS.parse("torchvision:resnet18").build((3, 64, 64), 10)
    assert network.feature_points == ("relu", "layer1", "layer2", "layer3", "layer4")
