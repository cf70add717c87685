"""Maxout networks against the sizes that FitNets publishes, and against the definition of maxout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import feature_points, multiply_adds
from nasdistill.models.maxout import PUBLISHED, Largest
from nasdistill.registry import registry

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)


def built(name: str, shape: tuple[int, int, int], **options: object) -> nn.Module:
    with torch.device("meta"):
        network: nn.Module = MODELS.parse({"name": name, **options} if options else name).build(shape, 10)
    return network


def weights(network: nn.Module) -> int:
    """Those of convolutions and matrices alone, as published."""
    return sum(value.numel() for name, value in network.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize(
    ("name", "shape", "published", "digit"),
    [
        ("fitnet-1", CIFAR, 250e3, 1e3),
        ("fitnet-2", CIFAR, 862e3, 1e3),
        ("fitnet-3", CIFAR, 1.5e6, 1e5),  # table 3, for SVHN; table 5 has 1.6 million and 392 million multiplications,
        ("fitnet-4", CIFAR, 2.5e6, 1e5),  # which do not follow from the layers of table 7
        ("maxout-cifar", CIFAR, 9e6, 1e6),
        ("maxout-mnist", MNIST, 361e3, 1e3),
        ("fitnet-mnist", MNIST, 30e3, 1e3),
    ],
)
def test_published_numbers_of_parameters(
    name: str, shape: tuple[int, int, int], published: float, digit: float
) -> None:
    """Tables 3, 4 and 5."""
    assert abs(weights(built(name, shape)) - published) <= digit / 2


@pytest.mark.parametrize(
    ("name", "published"),
    [("fitnet-1", 30), ("fitnet-2", 108), ("fitnet-4", 382), ("maxout-cifar", 725)]
    + [(f"fitnet-{layers}-layers-{budget}m", budget) for layers in (5, 7, 9) for budget in (30, 107)],
)
def test_published_numbers_of_multiplications(name: str, published: int) -> None:
    """In millions: table 5, and the budgets of table 6, which are approximate."""
    network = built(name, CIFAR)
    assert multiply_adds(network, CIFAR) / 1e6 == pytest.approx(published, rel=0.1 if "layers" in name else 0, abs=0.5)


@pytest.mark.parametrize(
    ("name", "guided", "convolutions"),
    [("fitnet-1", 6, 9), ("fitnet-2", 6, 9), ("fitnet-3", 8, 11), ("fitnet-4", 11, 17), ("fitnet-mnist", 4, 6)],
)
def test_depths_and_where_hints_are_read(name: str, guided: int, convolutions: int) -> None:
    """The guided layer of table 7 or of section A.2 ends the student's middle group, layer 2 that of the teacher."""
    shape = MNIST if "mnist" in name else CIFAR
    network = built(name, shape)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == convolutions
    assert feature_points(network, shape) == ("groups.0", "groups.1", "groups.2")
    upper = [sum(isinstance(part, nn.Conv2d) for part in network.get_submodule(f"groups.{n}")) for n in (0, 1)]
    assert sum(upper) == guided


def test_maps_of_the_teacher_are_those_of_the_released_code() -> None:
    """Windows that a border cuts off count, as in cuda-convnet: 32, 16, 7, 5."""
    network, maps = built("maxout-cifar", CIFAR), torch.empty(1, *CIFAR, device="meta")
    sizes = [(maps := group(maps)).shape[2] for group in network.groups]  # type: ignore[operator, union-attr]
    assert sizes == [16, 7, 5]


def test_maxout_is_the_largest_of_its_pieces() -> None:
    layer = nn.Conv2d(2, 6, 3)
    images = torch.randn(4, 2, 5, 5)
    pieces = [nn.functional.conv2d(images, layer.weight[n::3], layer.bias[n::3]) for n in range(3)]  # type: ignore[index]
    torch.testing.assert_close(Largest(3)(layer(images)), torch.stack(pieces).amax(0))


@pytest.mark.parametrize("name", ["fitnet-4", "fitnet-mnist", "maxout-cifar"])
def test_deep_ones_neither_fade_nor_explode(name: str) -> None:
    torch.manual_seed(0)
    shape = MNIST if "mnist" in name else CIFAR
    network = MODELS.parse(name).build(shape, 10)
    with torch.no_grad():
        assert 0.05 < float(network(torch.randn(2, *shape)).std()) < 20


def test_every_published_one_is_rebuilt_from_its_spec() -> None:
    for name in PUBLISHED:
        model = MODELS.parse(name)
        assert registry("models").parse(model.spec()) == model


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="layer 1 of this maxout network does not fit images of 4x28"):
        built("maxout-mnist", (1, 4, 28))
    with pytest.raises(SpecError, match="only the last layer has it") as error:
        MODELS.parse({"name": "maxout", "layers": [{"channels": 4, "pool": 0}, {"channels": 4}]})
    assert error.value.path == ("layers", 0)


def test_a_name_that_nobody_published_is_answered_with_those_that_are() -> None:
    with pytest.raises(SpecError, match=r"unknown maxout network 'fitnet-5'; did you mean .*maxout-mnist"):
        MODELS.parse("fitnet-5")


@pytest.mark.parametrize(("pool", "stride"), [(2, 3), (4, 2), (3, None), (1, 2), (2, 2)])
def test_any_pool_fits_what_follows_it(pool: int, stride: int | None) -> None:
    layers = [{"channels": 2, "pool": pool, "stride": stride}, {"channels": 3, "padding": 2}]
    for side in (6, 7, 8, 9):
        network = MODELS.parse({"name": "maxout", "layers": layers, "units": 4}).build((1, side, 2 * side), 5)
        assert network(torch.zeros(2, 1, side, 2 * side)).shape == (2, 5)


def test_options_of_published_ones_can_be_set() -> None:
    one = built("fitnet-1", CIFAR, unit_pieces=5, units=100, dropout=0.5)
    assert one.get_parameter("head.0.weight").shape == (500, 64)
    assert sum(isinstance(module, nn.Dropout) for module in one.modules()) == 9
