"""Channels that change together: by hand for each way in which they meet, and by trying it for whole networks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load
from torch import nn
from torch.nn import functional

from nasdistill.models.base import MODELS, _weights
from nasdistill.models.channels import BRANCHES, ChannelGroup, channel_groups
from nasdistill.models.channels.widths import set_widths, tried_groups

Forward = Callable[[nn.ModuleDict, torch.Tensor], torch.Tensor]


class Written(nn.Module):
    """Layers, and what is done with them."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.how = forward

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.how(self.layers, images)


def conv(before: int, after: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, **options)


def mean(features: torch.Tensor) -> torch.Tensor:
    return features.mean(dim=(2, 3))


def groups_of(network: nn.Module) -> dict[str, ChannelGroup]:
    found = channel_groups(network, (3, 8, 8))
    return {group.name.removeprefix("layers."): group for group in found}


def places(group: ChannelGroup) -> dict[str, list[list[int]]]:
    return {
        f"{place.tensor.removeprefix('layers.')}/{place.dimension}": place.positions.tolist() for place in group.places
    }


CASES: dict[str, tuple[Forward, dict[str, nn.Module], dict[str, int]]] = {
    "one after the other": (
        lambda m, x: m["c"](mean(functional.relu(m["b"](m["a"](x))))),
        {"a": conv(3, 4), "b": nn.BatchNorm2d(4), "c": nn.Linear(4, 2)},
        {"a": 4},
    ),
    "a sum": (
        lambda m, x: m["c"](mean(m["a"](x) + m["b"](x))),
        {"a": conv(3, 4), "b": conv(3, 4), "c": nn.Linear(4, 2)},
        {"a": 4},
    ),
    "beside each other": (
        lambda m, x: m["c"](mean(torch.cat([m["a"](x), m["b"](x)], 1))),
        {"a": conv(3, 4), "b": conv(3, 5), "c": nn.Linear(9, 2)},
        {"a": 4, "b": 5},
    ),
    "depthwise": (
        lambda m, x: m["c"](mean(m["b"](m["a"](x)))),
        {"a": conv(3, 4), "b": conv(4, 4, groups=4), "c": nn.Linear(4, 2)},
        {"a": 4},
    ),
    "with groups": (
        lambda m, x: m["c"](mean(m["b"](m["a"](x)))),
        {"a": conv(3, 8), "b": conv(8, 6, groups=2), "c": nn.Linear(6, 2)},
        {"a": 4, "b": 3},
    ),
    "transposed": (
        lambda m, x: m["c"](mean(m["b"](m["a"](x)))),
        {"a": conv(3, 4), "b": nn.ConvTranspose2d(4, 5, 2), "c": nn.Linear(5, 2)},
        {"a": 4, "b": 5},
    ),
    "flattened": (
        lambda m, x: m["c"](m["a"](x).flatten(1)),
        {"a": conv(3, 4), "c": nn.Linear(4 * 64, 2)},
        {"a": 4},
    ),
    "squeezed and excited": (
        lambda m, x: m["c"](mean(m["a"](x) * m["b"](mean(m["a"](x))).sigmoid()[:, :, None, None])),
        {"a": conv(3, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 2)},
        {"a": 4},
    ),
    "in two equal parts": (
        lambda m, x: m["c"](mean(torch.mul(*m["a"](x).chunk(2, 1)))),
        {"a": conv(3, 8), "c": nn.Linear(4, 2)},
        {"a": 4},
    ),
    "shuffled": (
        lambda m, x: m["c"](mean(m["a"](x).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2))),
        {"a": conv(3, 8), "c": nn.Linear(8, 2)},
        {"a": 4},
    ),
    "one layer twice": (
        lambda m, x: m["c"](mean(m["b"](m["b"](m["a"](x))))),
        {"a": conv(3, 4), "b": conv(4, 4), "c": nn.Linear(4, 2)},
        {"a": 4},
    ),
    "a map of where to look": (
        lambda m, x: m["c"](mean(m["a"](x) * m["b"](x).sigmoid())),
        {"a": conv(3, 4), "b": conv(3, 1), "c": nn.Linear(4, 2)},
        {"a": 4},
    ),
    "in groups by a norm": (
        lambda m, x: m["c"](mean(m["b"](m["a"](x)))),
        {"a": conv(3, 8), "b": nn.GroupNorm(2, 8), "c": nn.Linear(8, 2)},
        {"a": 4},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_channels_that_meet_are_one_and_the_network_runs_with_one_more_and_one_less(case: str) -> None:
    forward, layers, expected = CASES[case]
    network = Written(forward, **layers)
    groups = groups_of(network)
    free = {name: group.width for name, group in groups.items() if group.fixed is None}
    assert free == expected
    for name, width in free.items():
        for by in (1, -1):
            other = copy.deepcopy(network)
            set_widths(other, tuple(groups_of(network).values()), {groups[name].name: width + by})
            assert {key: group.width for key, group in groups_of(other).items() if group.fixed is None} == {
                **free,
                name: width + by,
            }


def test_where_they_lie_by_hand() -> None:
    forward, layers, _ = CASES["with groups"]
    assert places(groups_of(Written(forward, **layers))["b"]) == {
        "b.weight/0": [[0, 3], [1, 4], [2, 5]],
        "b.bias/0": [[0, 3], [1, 4], [2, 5]],
        "c.weight/1": [[0, 3], [1, 4], [2, 5]],
    }
    forward, layers, _ = CASES["beside each other"]
    assert places(groups_of(Written(forward, **layers))["b"])["c.weight/1"] == [[4], [5], [6], [7], [8]]
    forward, layers, _ = CASES["flattened"]
    lies = places(groups_of(Written(forward, **layers))["a"])["c.weight/1"]
    assert lies[1] == list(range(64, 128))


@pytest.mark.parametrize(
    ("forward", "layers", "reason"),
    [
        (
            lambda m, x: m["c"](mean(m["a"](x).sort(1).values)),
            {"a": conv(3, 4), "c": nn.Linear(4, 2)},
            "it is not known what sort does to them",
        ),
        (
            lambda m, x: m["c"](mean(m["a"](x)[:, :3])),
            {"a": conv(3, 4), "c": nn.Linear(3, 2)},
            "some of them are taken out by their number",
        ),
        (
            lambda m, x: m["c"](mean(m["a"](x) + torch.arange(4.0)[:, None, None])),
            {"a": conv(3, 4), "c": nn.Linear(4, 2)},
            "add meets them together with values that are no channel",
        ),
        (
            lambda m, x: m["c"](mean(m["a"](x))) * (2 if m["a"](x).sum() > 0 else 3),
            {"a": conv(3, 4), "c": nn.Linear(4, 2)},
            BRANCHES,
        ),
        (
            lambda m, x: m["c"](mean(m["a"](x).softmax(1))),
            {"a": conv(3, 4), "c": nn.Linear(4, 2)},
            "it is not known what _softmax does to them",
        ),
    ],
)
def test_what_is_not_understood_stays_and_says_why(forward: Forward, layers: dict[str, nn.Module], reason: str) -> None:
    assert groups_of(Written(forward, **layers))["a"].fixed == reason


def test_a_branch_by_a_constant_is_none() -> None:
    def forward(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
        return m["c"](mean(m["a"](x))) * (2 if torch.tensor(3.0) > torch.arange(2.0).sum() else 3)

    assert groups_of(Written(forward, a=conv(3, 4), c=nn.Linear(4, 2)))["a"].fixed is None


@pytest.mark.parametrize("layers", ["one module", "one weight"])
def test_a_layer_that_lies_in_two_places_stays_and_what_is_read_of_it_does_not(layers: str) -> None:
    twice = conv(4, 4)
    again = twice if layers == "one module" else conv(4, 4)
    again.weight, again.bias = twice.weight, twice.bias
    network = Written(
        lambda m, x: m["d"](mean(m["c"](m["again"](m["b"](m["a"](x)))))),
        a=conv(3, 4),
        b=twice,
        again=again,
        c=conv(4, 5),
        d=nn.Linear(5, 2),
    )
    groups = groups_of(network)
    assert groups["a"].fixed == "several layers share them"
    assert groups["c"].fixed is None
    assert torch.equal(load(_weights(network))["layers.again.weight"], twice.weight)


class Attention(nn.Module):
    """Two heads of four numbers each, beside what it reads, and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.values, self.joined = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.hidden, self.out, self.classifier = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        shape = tokens.shape
        queries, keys, values = self.values(tokens).reshape(*shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        read = (queries @ keys.transpose(-2, -1)).softmax(-1) @ values
        tokens = tokens + self.joined(read.transpose(1, 2).reshape(shape))
        logits: torch.Tensor = self.classifier((tokens + self.out(self.hidden(tokens).relu())).mean(1))
        return logits


def test_widths_that_heads_divide_stay_and_say_why() -> None:
    groups = {group.name: group for group in tried_groups(Attention(), (3, 16, 16))}
    assert groups["hidden"].fixed is None
    assert groups["values"].fixed == "it is not known what bmm does to them"
    assert str(groups["stem"].fixed).startswith("the network's code fails with one more: shape '[1, 4, 9]' is invalid")


def test_norms_over_channels_are_told() -> None:
    forward, layers, _ = CASES["in groups by a norm"]
    assert groups_of(Written(forward, **layers))["a"].mixed


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("wrn-10-1", 6),
        ("densenet-10-4", 9),
        ("resnet-8", 4),
        ("alfano-wrn-16-1", 10),
        ("mlp-8-8", 2),
        ("darts-v2-4-3", 13),
        ("fitnet-mnist", 0),
        pytest.param("torchvision:resnet18", 12, marks=pytest.mark.slow),
        pytest.param("torchvision:mobilenet_v3_small", 27, marks=pytest.mark.slow),
        pytest.param("torchvision:efficientnet_b0", 40, marks=pytest.mark.slow),
        pytest.param("torchvision:vgg11_bn", 10, marks=pytest.mark.slow),
    ],
)
def test_every_group_of_a_network_can_have_one_more_and_one_less(model: str, count: int) -> None:
    shape = (3, 32, 32)
    with torch.device("meta"):
        network = MODELS.parse(model).build(shape, 5)
    groups = channel_groups(network, shape)
    free = {group.name: group.width for group in groups if group.fixed is None}
    assert len(free) == count
    for name, width in free.items():
        for by in (1, -1):
            other = copy.deepcopy(network)
            set_widths(other, groups, {name: width + by})
            found = {group.name: group.width for group in channel_groups(other, shape) if group.fixed is None}
            assert found == {**free, name: width + by}
