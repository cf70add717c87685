"""All image networks: what holds for every one of them, and what users get wrong."""

from __future__ import annotations

import pytest
import torch

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, UserError
from nasdistill.growth.plan import size
from nasdistill.models.base import MODELS, Model, NetworkSpec
from nasdistill.models.inspection import count_parameters
from nasdistill.models.scalable import Scalable

SHAPES: list[Shape] = [(1, 8, 8), (3, 32, 32), (1, 28, 28)]
NAMES = [
    *("wrn-10-1", "resnet-8", "resnet-8x2", "densenet-10-4", "mlp-16-8", "vgg-8", "shufflenet"),
    *("torchvision:resnet18", "torchvision:mobilenet_v3_small"),
]
OF_PATCHES = ["vit-48-3", "mixer-32-2"]
"""Whose maps are all of one resolution."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*NAMES, *OF_PATCHES])
def test_maps_images_of_any_shape_to_logits_and_learns_from_them(name: str, shape: Shape) -> None:
    network = MODELS.parse(name).build(shape, 7)
    logits = network(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet-8", "alfano-wrn-10-1", "densenet-10-4", "darts-v2-4-4"])
def test_groups_that_grew_to_equal_widths_still_halve_the_resolution(name: str) -> None:
    model = MODELS.parse(name)
    assert isinstance(model, Scalable)
    equal = NetworkSpec(
        model=model.with_widths({unit.name: 12 for unit in model.units()}), shape=(3, 16, 16), classes=7
    )
    assert equal.build()(torch.randn(2, 3, 16, 16)).shape == (2, 7)
    assert size(equal, "params") == count_parameters(equal.build())


@pytest.mark.parametrize("name", NAMES)
def test_declared_feature_points_give_maps(name: str) -> None:
    network = MODELS.parse(name).build((3, 32, 32), 10)
    maps: list[torch.Size] = []
    for path in network.feature_points:
        network.get_submodule(path).register_forward_hook(lambda _m, _i, output: maps.append(output.shape))
    network.eval()(torch.zeros(2, 3, 32, 32))
    assert len(maps) == len(network.feature_points)
    assert all(len(shape) == 4 for shape in maps)
    sides = [shape[-1] for shape in maps]
    assert sides == sorted(set(sides), reverse=True)


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet-8", "densenet-10-4"])
def test_feature_points_are_the_three_resolutions(name: str) -> None:
    network = MODELS.parse(name).build((1, 8, 8), 10)
    sides = []
    for path in network.feature_points:
        network.get_submodule(path).register_forward_hook(lambda _m, _i, output: sides.append(tuple(output.shape[2:])))
    network(torch.zeros(2, 1, 8, 8))
    assert sides == [(8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet-8", "densenet-10-4", "mlp-16", "torchvision:squeezenet1_1"])
def test_the_same_seed_draws_the_same_weights(name: str) -> None:
    model = MODELS.parse(name)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(torch.cat([p.flatten() for p in model.build((1, 32, 32), 4).parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("text", ["WRN-40-2", "wrn-40-2"])
def test_shorthands_are_read_in_either_case(text: str) -> None:
    assert MODELS.parse(text).spec() == {"name": "wrn", "depth": 40, "width": 2, "widths": None, "dropout": 0.0}


@pytest.mark.parametrize("name", [*NAMES, *OF_PATCHES])
def test_rebuilt_from_its_spec(name: str) -> None:
    model = MODELS.parse(name)
    assert MODELS.parse(model.spec()) == model


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("wrn-17-1", "the nearest depths are 16 and 22"),
        ("wrn-3-1", "the nearest depth is 10"),
        ("wrn-4-1", "the nearest depth is 10"),
        ("resnet-18", "the nearest depths are 14 and 20"),
        ("densenet-99-12", "the nearest depths are 94 and 100"),
    ],
)
def test_a_depth_that_does_not_exist_names_the_nearest_that_do(name: str, depths: str) -> None:
    with pytest.raises(SpecError, match=depths) as caught:
        MODELS.parse(name)
    assert caught.value.path == ("depth",)


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet-8", "densenet-10-4"])
def test_too_small_an_image_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"at least 1x4x4 .* got 3x2x32"):
        MODELS.parse(name).build((3, 2, 32), 10)


def test_an_mlp_reads_any_image_that_has_pixels() -> None:
    assert MODELS.parse("mlp-3").build((1, 1, 1), 2)(torch.zeros(1, 1, 1, 1)).shape == (1, 2)
    with pytest.raises(UserError, match="0x8x8"):
        MODELS.parse("mlp-3").build((0, 8, 8), 2)


class Forgetful(Model):
    def build(self, shape: Shape, classes: int) -> None:  # type: ignore[override]
        torch.nn.Linear(shape[0], classes)


def test_a_model_that_builds_no_module_is_named_with_its_file() -> None:
    with pytest.raises(
        UserError, match=r"Forgetful.*test_networks\.py, line \d+\) must build a torch module, not None"
    ):
        NetworkSpec(model=Forgetful(), shape=(1, 8, 8), classes=7).build()
