"""A family that a plug-in brings grows by its units alone: plain, tied, concatenated, depthwise and grouped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import UserError
from nasdistill.growth.coupling import groups_of_units
from nasdistill.growth.importance import unit_importance
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.plan import size, with_model
from nasdistill.growth.student import Student
from nasdistill.growth.widening import carried, widen
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.darts import Darts
from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.models.scalable import Scalable, Unit
from nasdistill.models.with_widths import WithWidths
from nasdistill.training.engine import Engine, EngineSettings

FORMS = ("plain", "residual", "grouped", "concatenated")


class Small(Scalable):
    """Two convolutions; the second adds to the first, is grouped, or stands beside it."""

    form: Literal["plain", "residual", "grouped", "concatenated"] = "plain"
    first: int = 4
    second: int = 6

    def units(self) -> tuple[Unit, ...]:
        if self.form == "residual":
            return (Unit("first", self.first),)
        multiple = 2 if self.form == "grouped" else 1
        return (Unit("first", self.first, multiple), Unit("second", self.second, multiple))

    def with_widths(self, widths: Mapping[str, int]) -> Small:
        return self.with_options(**widths)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return SmallNetwork(self, shape[0], classes)


class SmallNetwork(nn.Module):
    def __init__(self, model: Small, channels: int, classes: int) -> None:
        super().__init__()
        self.form, a, b = model.form, model.first, model.second
        before, after = (channels if self.form == "concatenated" else a), (a if self.form == "residual" else b)
        depthwise = [nn.Conv2d(a, a, 3, padding=1, groups=a)] if self.form == "residual" else []
        self.first = nn.Sequential(nn.Conv2d(channels, a, 3, padding=1), nn.BatchNorm2d(a), nn.ReLU(), *depthwise)
        groups = 2 if self.form == "grouped" else 1
        self.second = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, groups=groups), nn.BatchNorm2d(after), nn.ReLU()
        )
        self.classifier = nn.Linear(a + b if self.form == "concatenated" else after, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.first(images)
        if self.form == "concatenated":
            features = torch.cat([first, self.second(images)], dim=1)
        else:
            features = self.second(first) + (first if self.form == "residual" else 0)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    MODELS.names()
    monkeypatch.setattr(MODELS, "_components", {name: MODELS.get(name) for name in MODELS.loaded()})
    MODELS.register("small")(Small)


def student(form: Any) -> tuple[NetworkSpec, nn.Module]:
    spec = NetworkSpec(model=Small(form=form), shape=(2, 6, 6), classes=3)
    torch.manual_seed(0)
    network = spec.build().double()
    network(torch.randn(16, 2, 6, 6, dtype=torch.float64))  # batch norms have statistics of their own
    return spec, network.eval()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(6, 2, 6, 6, generator=generator, dtype=torch.float64), torch.arange(6) % 3)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineSettings(accelerator="cpu", precision="32"))


@pytest.mark.parametrize("form", FORMS)
def test_a_widened_network_computes_the_same(form: str) -> None:
    spec, network = student(form)
    images = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    for unit in spec.model.units():
        for width in (unit.width + unit.multiple, 4 * unit.width):
            wider_spec, wider = widen(spec, network, unit.name, width)
            assert {each.name: each.width for each in wider_spec.model.units()}[unit.name] == width
            torch.testing.assert_close(wider(images), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_a_channel_that_nothing_hears_can_be_left_out(form: str) -> None:
    """Sources that leave channels out shrink a network."""
    spec, network = student(form)
    unit = spec.model.units()[-1]
    (group,) = groups_of_units(spec)[unit.name]
    state = network.state_dict()
    for place in group.places:
        if place.reads:
            state[place.tensor].index_fill_(place.dimension, place.positions[-1], 0)
    images = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    width = unit.width - unit.multiple
    narrower = widen(spec, network, unit.name, width, sources=lambda _group, width: torch.arange(width))[1]
    assert count_parameters(narrower) < count_parameters(network)
    torch.testing.assert_close(narrower(images), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["fisher", "uniform", "random", {"name": "fisher", "read": "after-norm"}])
def test_it_grows_to_the_ratio_and_keeps_to_multiples(form: str, method: Any, engine: Engine) -> None:
    spec, network = student(form)
    method = GROWTH_METHODS.parse(method).model_copy(update={"tolerance": 0.15})
    grown = method.grow(Student(spec, network, batches(), engine))
    rebuilt = NetworkSpec.model_validate_json(grown.spec.model_dump_json()).build()
    assert count_parameters(rebuilt) / count_parameters(network) == pytest.approx(2, rel=0.15)
    assert all(unit.width % unit.multiple == 0 for unit in grown.spec.model.units())
    assert rebuilt(torch.randn(2, 2, 6, 6)).shape == (2, 3)


def test_a_unit_is_scored_at_the_module_of_its_name(engine: Engine) -> None:
    """Against g, the derivative of one image's loss by a factor on the second unit's channel."""
    spec, network = student("plain")
    expected = torch.zeros(6, dtype=torch.float64)
    ((images, labels),) = batches()
    for image, label in zip(images, labels, strict=True):
        factors = torch.ones(6, 1, 1, dtype=torch.float64, requires_grad=True)
        logits = network.classifier((network.second(network.first(image[None])) * factors).mean(dim=(2, 3)))
        (g,) = torch.autograd.grad(nn.functional.cross_entropy(logits, label[None]), factors)
        expected += g.flatten() ** 2 / (2 * len(images))
    scores = unit_importance(spec, network, "output", batches(), engine)
    torch.testing.assert_close(scores["second"], expected)


def test_a_family_that_builds_on_darts_has_sizes_of_its_own() -> None:
    class Deeper(Darts):
        def build(self, shape: Shape, classes: int) -> nn.Module:
            return nn.Sequential(super().build(shape, classes), nn.Linear(classes, classes))

    MODELS.register("deeper")(Deeper)
    options = {"genotype": "DARTS_V2", "channels": 2, "cells": 2}
    plain, deeper = (
        NetworkSpec(model={"name": name, **options}, shape=(1, 4, 4), classes=3) for name in ("darts", "deeper")
    )
    assert size(deeper, "params") == size(plain, "params") + 3 * 3 + 3
    assert size(deeper, "flops") == size(plain, "flops") + 3 * 3


def test_a_family_without_depth_is_refused_by_depth() -> None:
    reason = GROWTH_METHODS.parse("depth").reason_to_refuse(student("plain")[0])
    assert reason == "the model 'small' has no depth that can grow"


def test_a_unit_may_hold_several_groups() -> None:
    spec = NetworkSpec(model=MODELS.parse("darts-v2-2-6"), shape=(1, 8, 8), classes=3)
    names = [group.name for group in groups_of_units(spec)["cells.3"]]
    assert {"cells.3.preprocess0.conv1", "cells.3.preprocess0.conv2"} < {*names}
    assert all(name.startswith("cells.3.") for name in names)


def test_a_unit_that_the_network_ties_to_what_stays_is_refused() -> None:
    class Padded(SmallNetwork):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            first = self.first(images)
            logits: torch.Tensor = self.classifier(first[:, : self.classifier.in_features].mean(dim=(2, 3)))
            return logits

    class Cut(Small):
        def build(self, shape: Shape, classes: int) -> nn.Module:
            return Padded(self, shape[0], classes)

    MODELS.register("cut")(Cut)
    spec = NetworkSpec(model=Cut(first=8), shape=(2, 6, 6), classes=3)
    with pytest.raises(UserError, match=r"'first\.0.*' cannot be copied: some of them are taken out by their number"):
        widen(spec, spec.build(), "first", 9)


MOBILENET = {
    "name": "mobilenet",
    "stem": 4,
    "head": 8,
    "stages": [
        {"width": 4, "expansion": 2, "stride": 2},
        {"width": 6, "expansion": 3, "depth": 2},
        {"width": 6, "kernel": 5},  # its first block adds what it reads
    ],
}


@pytest.mark.parametrize(
    "model",
    [
        *("wrn-10-1", "wrn-16-2", "alfano-wrn-16-1", "densenet-10-4", "mlp-6-5", MOBILENET),
        "|sep_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|",
    ],
)
@pytest.mark.parametrize("factor", [1.5, 4])
def test_every_family_computes_the_same_with_all_units_widened(model: Any, factor: float) -> None:
    spec = NetworkSpec(model=MODELS.parse(model), shape=(2, 16, 16), classes=3)
    torch.manual_seed(0)
    network = spec.build().double().eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values, least in (
                (norm.running_mean, -1),
                (norm.running_var, 0.5),
                (norm.weight, 0.5),
                (norm.bias, -1),
            ):
                nn.init.uniform_(values, least, 2)
    wider = {unit.name: int(factor * unit.width) for unit in spec.model.units()}
    images = torch.randn(5, 2, 16, 16, dtype=torch.float64)
    grown = carried(spec, network, spec.model_copy(update={"model": spec.model.with_widths(wider)}))
    torch.testing.assert_close(grown(images), network(images), rtol=1e-9, atol=1e-9)


def test_channels_beside_which_zeros_lie_cannot_be_copied() -> None:
    spec = NetworkSpec(model=MODELS.parse("resnet-8"), shape=(2, 16, 16), classes=3)
    with pytest.raises(UserError, match=r"'groups.1.0.conv2' cannot be copied: add meets them together with values"):
        widen(spec, spec.build(), "groups.1", 40)


@pytest.mark.parametrize(
    "model",
    [
        *("wrn-10-1", "resnet-8", "torchvision:mobilenet_v3_small"),
        "vit-12-1",  # products of activations
        {"name": "darts", "genotype": "DARTS_V2", "channels": 2, "cells": 3, "auxiliary": True},
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("densenet-40-12", "darts-v2-4-8", "torchvision:resnet18", "torchvision:efficientnet_b0")
        ),
        pytest.param("torchvision:vgg11_bn", marks=pytest.mark.slow),
    ],
)
def test_every_group_of_any_network_can_be_widened_and_is_counted(model: Any) -> None:
    shape = (3, 32, 32)
    own = NetworkSpec(model=MODELS.parse(model), shape=shape, classes=4)
    spec = own.model_copy(update={"model": WithWidths.of(own.model, shape)})
    torch.manual_seed(0)
    network = spec.build().double().eval()
    network.load_state_dict(own.build().state_dict())  # the same modules, and the same weights fit
    wider = with_model(spec, spec.model.with_widths({unit.name: int(1.5 * unit.width) for unit in spec.model.units()}))
    wider = NetworkSpec.model_validate_json(wider.model_dump_json())
    for each in (spec, wider):
        assert size(each, "params") == count_parameters(each.build())
        assert size(each, "flops") == multiply_adds(each.build(), shape)
    images = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(carried(spec, network, wider)(images), network(images), rtol=1e-9, atol=1e-9)


def test_new_weights_keep_the_variance_and_constants_stay() -> None:
    own = MODELS.parse("torchvision:resnet18")
    wide = WithWidths.of(own, (3, 32, 32)).with_widths({"layer1.0.conv1": 256})
    torch.manual_seed(0)
    before, after = own.build((3, 32, 32), 4), wide.build((3, 32, 32), 4)
    assert torch.equal(after.layer1[0].bn1.weight, torch.ones(256))
    ratio = after.layer1[0].conv2.weight.std().detach() / before.layer1[0].conv2.weight.std()
    assert ratio.item() == pytest.approx(0.5, rel=0.02)  # it reads four times as many


@pytest.mark.parametrize(
    ("widths", "told"),
    [
        ({"layer1.0.conv": 9}, "unknown group of channels 'layer1.0.conv'; did you mean 'layer1.0.conv1'"),
        ({"fc": 9}, "the channels of 'fc' stay 4: they are the network's outputs"),
    ],
)
def test_groups_that_there_are_not_or_that_stay_are_told(widths: dict[str, int], told: str) -> None:
    wrong = WithWidths(model="torchvision:resnet18", traced_at=(3, 32, 32), widths=widths)
    with pytest.raises(UserError, match=told):
        wrong.build((3, 32, 32), 4)
