"""A family that a plug-in brings grows by the contract alone: plain, tied, concatenated, depthwise and grouped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import UserError
from nasdistill.growth.importance import unit_importance
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.plan import size
from nasdistill.growth.student import Student
from nasdistill.growth.widening import widen
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.darts import Darts
from nasdistill.models.growable import Growable, Slot, slots_by_size
from nasdistill.models.inspection import count_parameters
from nasdistill.models.scalable import Unit
from nasdistill.training.engine import Engine, EngineSettings

FORMS = ("plain", "residual", "grouped", "concatenated")


class Small(Growable):
    """Two convolutions; the second adds to the first, is grouped, or stands beside it."""

    form: Literal["plain", "residual", "grouped", "concatenated"] = "plain"
    first: int = 4
    second: int = 6

    def units(self) -> tuple[Unit, ...]:
        if self.form == "residual":
            return (Unit("first", self.first),)
        parts = 2 if self.form == "grouped" else 1
        return (Unit("first", self.first, parts, parts), Unit("second", self.second, parts, parts))

    def with_widths(self, widths: Mapping[str, int]) -> Small:
        return self.with_options(**widths)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return SmallNetwork(self, shape[0], classes)


class Beside(Small):
    """Says what lies in a concatenation."""

    def slots(self, unit: Unit, shape: Shape, classes: int) -> tuple[Slot, ...]:
        offset = 0 if unit.name == "first" else self.first
        tensors = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
        made = [Slot(f"{unit.name}.{tensor}", 0, reads=False) for tensor in tensors]
        return (*made, Slot("classifier.weight", 1, reads=True, offsets=(offset,)))


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
    MODELS.register("beside")(Beside)


def student(form: str) -> tuple[NetworkSpec, nn.Module]:
    model = {"name": "beside" if form == "concatenated" else "small", "form": form}
    spec = NetworkSpec(model=MODELS.parse(model), shape=(2, 6, 6), classes=3)
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
    """Sources that leave channels out shrink: the same slots, run backwards."""
    spec, network = student(form)
    unit = spec.model.units()[-1]
    with torch.no_grad():  # the last channels of each part have no effect
        parts = [unit.part(number) for number in range(unit.parts)]
        offset = 4 if form == "concatenated" else 0
        for part in parts:
            network.classifier.weight[:, offset + part[-1]] = 0
            if form == "residual":
                network.second[0].weight[:, part[-1]] = 0
    sources = torch.tensor([channel for part in parts for channel in part[:-1]])
    images = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    narrower = widen(spec, network, unit.name, len(sources), sources=sources)[1]
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


def test_a_place_that_sizes_do_not_tell_must_be_said_and_said_rightly() -> None:
    model = Small(form="concatenated")
    with pytest.raises(
        UserError, match=r"'classifier.weight' becomes 6 from 4 when 'first' becomes 4 from 2: Small.slots has to"
    ):
        list(slots_by_size(model, model.units()[0], (2, 6, 6), 3))

    class Forgetful(Beside):
        def slots(self, unit: Unit, shape: Shape, classes: int) -> tuple[Slot, ...]:
            return super().slots(unit, shape, classes)[:-1]

    MODELS.register("forgetful")(Forgetful)
    spec = NetworkSpec(model=Forgetful(form="concatenated"), shape=(2, 6, 6), classes=3)
    with pytest.raises(UserError, match=r"'classifier.weight' is \(3, 11\), but .* Forgetful .*test_growable.py, line"):
        widen(spec, spec.build(), "first", 5)
