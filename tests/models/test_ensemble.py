"""The model `ensemble`: against an average in numpy of what the members say alone, and as a network like any other."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.folding import folded
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS, NetworkSpec, load_network, save_network
from nasdistill.models.binary import BinaryLayer
from nasdistill.models.ensemble import Average, EnsembleModel, average_logits
from nasdistill.models.exporters import EXPORTERS
from nasdistill.models.exporters.packed import load_packed
from nasdistill.models.inspection import count_parameters, inspect, layers, multiply_adds, size_bytes
from nasdistill.registry import build
from tests.training.parts import engine

SHAPE: Shape = (3, 8, 8)
CLASSES = 5
FIRST = Normalisation(mean=(0.2, 0.5, 0.7), std=(0.5, 0.1, 0.3))
SECOND = Normalisation(mean=(0.4, 0.4, 0.45), std=(0.25, 0.26, 0.2))
DARTS = {"name": "darts", "genotype": "DARTS_V2", "cells": 3, "channels": 4, "auxiliary": True, "drop_path": 0.3}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    divided: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return divided


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 1.0, 5.0]])
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_the_average_of_several_networks(weights: list[float], average: Average) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 5, 4), scale=3)
    found = average_logits([torch.tensor(each) for each in logits], weights, average).numpy()
    shares = np.array(weights) / sum(weights)
    if average == "logits":
        np.testing.assert_allclose(found, np.tensordot(shares, logits, axes=1), atol=1e-12)
        # Its softmax is the geometric mean of the probabilities, normalised.
        geometric = np.prod(softmax(logits) ** shares[:, None, None], axis=0)
        np.testing.assert_allclose(softmax(found), geometric / geometric.sum(1, keepdims=True), atol=1e-12)
    else:
        np.testing.assert_allclose(softmax(found), np.tensordot(shares, softmax(logits), axes=1), atol=1e-12)


def test_an_average_of_very_sure_networks_stays_finite() -> None:
    sure = [torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1000.0]])]
    torch.testing.assert_close(average_logits(sure, [3, 1], "probabilities").softmax(1), torch.tensor([[0.75, 0.25]]))


def trained(network: nn.Module) -> nn.Module:
    """With batch norms and weights unlike those of a new network, so that members say different things."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.normal_(module.weight, mean=1, std=0.3)
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
    with torch.no_grad():
        network.train()(torch.randn(16, *SHAPE))
    return network.eval()


def alone(*models: Any) -> list[nn.Module]:
    torch.manual_seed(0)
    return [trained(NetworkSpec(model=MODELS.parse(m), shape=SHAPE, classes=CLASSES).build()) for m in models]


def spec_of(*members: dict[str, Any], **options: Any) -> NetworkSpec:
    model = {"name": "ensemble", "members": list(members), "normalisation": FIRST.model_dump(), **options}
    return build(NetworkSpec, {"model": model, "shape": SHAPE, "classes": CLASSES, "normalisation": FIRST})


def three() -> tuple[NetworkSpec, list[nn.Module]]:
    """Two of the ensemble's normalisation, one of another; a convolutional, a searched and a plain network."""
    spec = spec_of(
        {"model": "wrn-10-1", "weight": 2},
        {"model": DARTS, "normalisation": SECOND.model_dump()},
        {"model": "mlp-16", "normalisation": FIRST.model_dump(), "weight": 0.5},
    )
    return spec, alone("wrn-10-1", DARTS, "mlp-16")


def said(network: nn.Module, pixels: torch.Tensor, normalisation: Normalisation) -> np.ndarray:
    images = torch.stack([(pixels[:, c] - normalisation.mean[c]) / normalisation.std[c] for c in range(3)], dim=1)
    with torch.no_grad():
        logits: np.ndarray = network(images).double().numpy()
    return logits


def averaged(logits: Sequence[np.ndarray], weights: Sequence[float], average: str) -> np.ndarray:
    """Image by image and class by class."""
    total = np.zeros_like(logits[0])
    for each, weight in zip(logits, weights, strict=True):
        for row, of_image in enumerate(each):
            for label, logit in enumerate(of_image):
                probability = math.exp(logit) / sum(math.exp(other) for other in of_image)
                total[row, label] += weight / sum(weights) * (logit if average == "logits" else probability)
    return total if average == "logits" else np.log(total)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_its_logits_are_the_average_of_the_members_own_on_the_same_pixels(average: str) -> None:
    spec, networks = three()
    model = spec.model.model_copy(update={"average": average})
    pixels = torch.rand(7, *SHAPE)
    each = [said(network, pixels, own) for network, own in zip(networks, (FIRST, SECOND, FIRST), strict=True)]
    found = said(model.of(networks).eval(), pixels, FIRST)
    np.testing.assert_allclose(found, averaged(each, (2, 1, 0.5), average), atol=1e-5)
    assert np.abs(found - averaged(each, (1, 1, 1), average)).max() > 0.05, "the case is too easy"


def test_in_double_precision_to_rounding() -> None:
    networks = [network.double() for network in alone("wrn-10-1", "mlp-16")]
    pixels = torch.rand(7, *SHAPE, dtype=torch.float64)
    each = [said(network, pixels, FIRST) for network in networks]
    found = said(spec_of({"model": "wrn-10-1"}, {"model": "mlp-16"}).model.of(networks), pixels, FIRST)
    np.testing.assert_allclose(found, averaged(each, (1, 1), "probabilities"), rtol=1e-12, atol=1e-12)


def test_spec_and_weights_bring_it_back(tmp_path: Path) -> None:
    spec, networks = three()
    network = spec.model.of(networks)
    save_network(tmp_path, spec, network)
    found, loaded = load_network(tmp_path)
    assert found == spec
    assert [member.model for member in found.model.members] == list(map(MODELS.parse, ("wrn-10-1", DARTS, "mlp-16")))
    images = torch.randn(3, *SHAPE)
    torch.testing.assert_close(loaded(images), network.eval()(images), rtol=0, atol=0)
    assert "binary" not in json.loads((tmp_path / "spec.json").read_text())["model"]


def test_parameters_bytes_and_multiply_adds_are_sums() -> None:
    spec, networks = three()
    expected = [
        sum(measure(network) for network in networks)
        for measure in (count_parameters, size_bytes, lambda network: multiply_adds(network, SHAPE))
    ]
    found = inspect(spec.build(), spec.shape, spec.classes)
    assert [found.parameters, found.bytes, found.multiply_adds] == expected
    assert sum(layer.multiply_adds for layer in layers(spec.build(), SHAPE)) == expected[2]


def test_no_auxiliary_head_comes_along() -> None:
    (darts,) = alone(DARTS)
    with_head = sum(parameter.numel() for parameter in darts.parameters())
    ensemble = spec_of({"model": DARTS}).model.of([darts])
    assert sum(parameter.numel() for parameter in ensemble.parameters()) == count_parameters(darts) < with_head
    assert not any("auxiliary" in name for name in ensemble.state_dict())


def test_an_ensemble_of_ensembles_is_one_with_the_products_of_the_weights() -> None:
    networks = alone("wrn-10-1", "mlp-16", "mlp-8")
    inner = spec_of({"model": "wrn-10-1", "weight": 3}, {"model": "mlp-16"}, normalisation=SECOND.model_dump())
    outer = spec_of(
        {"model": inner.model.spec(), "normalisation": SECOND.model_dump()}, {"model": "mlp-8", "weight": 2}
    )
    nested = outer.model.of([inner.model.of(networks[:2]), networks[2]])
    own = SECOND.model_dump()
    flat = spec_of(
        {"model": "wrn-10-1", "normalisation": own, "weight": 0.75},
        {"model": "mlp-16", "normalisation": own, "weight": 0.25},
        {"model": "mlp-8", "weight": 2},
    ).model.of(networks)
    images = torch.randn(5, *SHAPE)
    torch.testing.assert_close(nested.eval()(images), flat.eval()(images))
    assert outer.build().load_state_dict(nested.state_dict())


def test_folding_makes_it_quicker_and_changes_nothing() -> None:
    spec, networks = three()
    network = spec.model.of(networks).eval()
    frozen = folded(network, SHAPE)
    images = torch.randn(5, *SHAPE)
    torch.testing.assert_close(frozen(images), network(images), atol=1e-4, rtol=1e-4)
    before, after = (sum(isinstance(part, nn.BatchNorm2d) for part in each.modules()) for each in (network, frozen))
    alone_after = sum(isinstance(part, nn.BatchNorm2d) for each in networks for part in folded(each, SHAPE).modules())
    assert after == alone_after < before


def test_in_bf16_the_mean_is_taken_in_single_precision() -> None:
    spec, networks = three()
    runs = engine("bf16")
    network = runs.place(spec.model.of(networks).eval())
    images = torch.randn(5, *SHAPE).to(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = network(images)
        with runs.autocast():
            logits = network(images)
            inner = network.members[0](images)  # type: ignore[index, operator]
    assert (inner.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(logits, exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("format", "average"), [("onnx", "probabilities"), ("onnx", "logits"), ("torch", "probabilities")]
)
def test_it_is_exported_and_checked(tmp_path: Path, format: str, average: str) -> None:
    spec, networks = three()
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"average": average})})
    told = EXPORTERS.parse(format).export(spec, spec.model.of(networks).eval(), tmp_path)
    assert told["difference"] < 1e-4
    assert (tmp_path / told["file"]).is_file()


def test_binary_members_stay_binary_and_are_packed(tmp_path: Path) -> None:
    binary = {"name": "mlp-16-16-16", "binary": "xnor"}
    spec = spec_of({"model": binary}, {"model": "mlp-16"})
    network = spec.build().eval()
    assert sum(isinstance(part, BinaryLayer) for part in network.modules()) == 2
    told = EXPORTERS.parse("packed").export(spec, network, tmp_path)
    images = torch.randn(3, *SHAPE)
    torch.testing.assert_close(load_packed(tmp_path / told["file"])[1](images), network(images))


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"members": []}, ("members",), "at least 1 must be given"),
        ({"members": [{"model": "wrm-10-1"}]}, ("members", 0, "model"), "unknown model 'wrm-10-1'"),
        ({"members": [{"model": "mlp-8", "weight": 0}]}, ("members", 0, "weight"), "greater than 0"),
        ({"members": [{"model": "mlp-8"}], "average": "median"}, ("average",), "'probabilities' or 'logits'"),
        ({"members": [{"model": "mlp-8"}], "binary": "xnor"}, ("binary",), "its members can be binary models"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], path: tuple[str | int, ...], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        build(EnsembleModel, options)
    assert error.value.path == path
    assert problem in error.value.problem


def test_a_member_that_cannot_read_the_images_is_named() -> None:
    model = MODELS.parse({"name": "ensemble", "members": [{"model": "mlp-8"}, {"model": "wave-5-8"}]})
    with pytest.raises(UserError, match="a waveform network needs waveforms of 1x1x4 or longer") as error:
        model.build(SHAPE, CLASSES)
    assert isinstance(error.value, SpecError)
    assert error.value.path == ("members", 1, "model")
