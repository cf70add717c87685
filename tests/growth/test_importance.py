"""Fisher scores against per-sample autograd, by the formula of the facts."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError
from nasdistill.growth.importance import (
    channel_importance,
    estimate_statistics,
    group_importance,
    is_trained,
    unit_importance,
    unit_points,
)
from nasdistill.growth.plan import widths_of, with_units
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.channels import Place, channel_groups
from nasdistill.models.with_widths import points_at
from nasdistill.training.engine import Engine, EngineSettings


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineSettings(accelerator="cpu", precision="32"))


class TwoReaders(nn.Module):
    """The output of `tapped` is read by a convolution and, past it, by a skip connection; `tapped` has batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.tapped = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5))
        self.reader = nn.Conv2d(5, 5, 3, padding=1)
        self.classifier = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.after(self.tapped(images))

    def after(self, activation: torch.Tensor) -> torch.Tensor:
        return self.classifier((activation.tanh() + self.reader(activation.relu())).mean(dim=(2, 3)))


@pytest.fixture
def network() -> TwoReaders:
    torch.manual_seed(0)
    network = TwoReaders().double()
    network.tapped[1].running_mean.uniform_(-1, 1)
    network.tapped[1].running_var.uniform_(0.5, 2)
    return network


@pytest.fixture
def images_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(20, 2, 6, 6, dtype=torch.float64), torch.randint(3, (20,))


def scores_by_factors(network: TwoReaders, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Delta_c from one sample at a time: g_nc is the derivative of the loss by a factor of 1 on channel c."""
    network.eval()
    squares = torch.zeros(5, dtype=torch.float64)
    for image, label in zip(images, labels, strict=True):
        factors = torch.ones(5, dtype=torch.float64, requires_grad=True)
        logits = network.after(network.tapped(image[None]) * factors.view(1, 5, 1, 1))
        (g,) = torch.autograd.grad(functional.cross_entropy(logits, label[None]), factors)
        squares += g**2
    return squares / (2 * len(images))


class Rows(nn.Module):
    """Linear layers on channels that are last, for which each row of pixels stands in the place of an image.

    Args:
        first: rows of pixels come before images.
    """

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.hidden = nn.Linear(2, 5)
        self.reader = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor, factors: torch.Tensor | int = 1) -> torch.Tensor:
        rows = images.permute(2, 0, 3, 1) if self.first else images.permute(0, 2, 3, 1).flatten(0, 1)
        logits = self.reader((self.hidden(rows) * factors).relu())
        return logits.mean(dim=(0, 2)) if self.first else logits.unflatten(0, (len(images), -1)).mean(dim=(1, 2))


@pytest.mark.parametrize("first", [True, False])
def test_rows_that_are_no_images_are_summed_over_their_image_and_linear_layers_have_channels_last(
    first: bool, images_and_labels: tuple[torch.Tensor, torch.Tensor], engine: Engine
) -> None:
    torch.manual_seed(0)
    images, labels = images_and_labels
    network = Rows(first).double()
    expected = torch.zeros(5, dtype=torch.float64)
    for image, label in zip(images, labels, strict=True):
        factors = torch.ones(5, dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(functional.cross_entropy(network(image[None], factors), label[None]), factors)
        expected += g**2 / (2 * len(images))
    batches = [*zip(images.split(6), labels.split(6), strict=True)]  # as many as there are rows
    torch.testing.assert_close(channel_importance(network, ["hidden"], batches, engine)["hidden"], expected)
    (group,) = (group for group in channel_groups(network, (2, 6, 6)) if group.name == "hidden")
    torch.testing.assert_close(group_importance(network, [group], batches, engine)["hidden"], expected)


def test_a_network_of_patches_has_a_score_for_each_hidden_unit(engine: Engine) -> None:
    spec = with_units(NetworkSpec(model=MODELS.parse("vit-6-2"), shape=(1, 8, 8), classes=3))
    network, batches = spec.build(), [(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))]
    scores = unit_importance(spec, network, "output", batches, engine)
    assert {unit: len(found) for unit, found in scores.items()} == widths_of(spec)
    for unit, found in scores.items():
        torch.testing.assert_close(found, channel_importance(network, [unit], batches, engine)[unit])


@pytest.mark.parametrize(
    ("positions", "runs"),
    [
        ([[0, 1], [2, 3], [4, 5]], [(0, 6)]),  # two filters for each channel
        ([[0, 3], [1, 4], [2, 5]], [(0, 6)]),  # two groups of filters
        ([[0, 4], [1, 5]], [(0, 2), (4, 6)]),
    ],
)
def test_channels_are_read_where_they_lie_and_once(positions: list[list[int]], runs: list[tuple[int, int]]) -> None:
    place = Place("norm.running_mean", 0, False, torch.tensor(positions))
    assert [(point.path, point.start, point.stop) for point in points_at(place)] == [("norm", *run) for run in runs]


@pytest.mark.parametrize("size", [1, 7, 20])
def test_scores_are_those_of_single_samples_however_they_are_batched(
    network: TwoReaders, images_and_labels: tuple[torch.Tensor, torch.Tensor], engine: Engine, size: int
) -> None:
    images, labels = images_and_labels
    expected = scores_by_factors(network, images, labels)
    batches = zip(images.split(size), labels.split(size), strict=True)
    scores = channel_importance(network.train(), ["tapped"], batches, engine)["tapped"]
    torch.testing.assert_close(scores, expected, rtol=1e-10, atol=0)


def test_two_readers_are_summed_before_squaring(engine: Engine) -> None:
    """One channel of one pixel, read with weights 2 and 3 into the two logits' difference; all by hand."""

    class Hand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tapped = nn.Identity()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            channel = self.tapped(images)
            logit = (2 * channel + 3 * channel).sum(dim=(2, 3))
            return torch.cat([logit, torch.zeros_like(logit)], dim=1)

    pixel = 0.2
    batch = (torch.full((1, 1, 1, 1), pixel, dtype=torch.float64), torch.tensor([1]))
    # The loss of label 1 is log(1 + e^z) with z = 5 a; its derivative by a is 5 / (1 + e^-z).
    g = pixel * 5 / (1 + torch.tensor(-5 * pixel, dtype=torch.float64).exp())
    score = channel_importance(Hand(), ["tapped"], [batch], engine)["tapped"]
    torch.testing.assert_close(score, (g**2 / 2).view(1))


def test_a_module_that_runs_twice_is_one_channel(engine: Engine) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x).tanh())

    torch.manual_seed(0)
    network, batch = Twice().double(), (torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0]))
    factors = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    logits = network.layer((network.layer(batch[0]) * factors).tanh()) * factors
    (g,) = torch.autograd.grad(functional.cross_entropy(logits, batch[1], reduction="sum"), factors)
    score = channel_importance(network, ["layer"], [batch], engine)["layer"]
    torch.testing.assert_close(score, (g**2).mean(dim=0) / 2)


def test_behind_a_batch_norm_is_behind_its_relu(
    images_and_labels: tuple[torch.Tensor, torch.Tensor], engine: Engine
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 4), nn.Flatten()).double()
    scores = channel_importance(network, ["1", "2"], [images_and_labels], engine)
    torch.testing.assert_close(scores["1"], scores["2"])
    assert scores["1"].min() > 0


def test_the_network_is_left_as_it_was(
    network: TwoReaders, images_and_labels: tuple[torch.Tensor, torch.Tensor], engine: Engine
) -> None:
    network.train()
    network.reader.eval()
    network.classifier.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    channel_importance(network, ["tapped"], [images_and_labels], engine)
    assert network.training
    assert not network.reader.training
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["classifier.bias"]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.tapped._forward_hooks


def test_activations_are_let_go_and_weights_get_no_gradients(
    network: TwoReaders, images_and_labels: tuple[torch.Tensor, torch.Tensor], engine: Engine
) -> None:
    images, labels = images_and_labels
    seen: list[weakref.ref[torch.Tensor]] = []
    computed = []
    after = network.after

    def noting(activation: torch.Tensor) -> torch.Tensor:
        seen.append(weakref.ref(activation))
        return after(activation)

    network.after = noting  # type: ignore[method-assign]
    network.reader.register_full_backward_pre_hook(lambda _m, _g: computed.append(network.reader.weight.requires_grad))
    gc.disable()  # what only the collector would free is a leak for as long as a pass lasts
    try:
        channel_importance(network, ["tapped"], zip(images.split(5), labels.split(5), strict=True), engine)
        assert len(seen) == 5  # the first is one image, to see whether rows are images
        assert all(reference() is None for reference in seen)
    finally:
        gc.enable()
    assert computed == [False] * 5


def test_a_reader_may_change_the_activation_in_place(engine: Engine) -> None:
    plain = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU())
    in_place = nn.Sequential(plain[0], plain[1], nn.ReLU(inplace=True))
    images = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]
    expected, found = (channel_importance(network, ["0", "1"], images, engine) for network in (plain, in_place))
    assert all(torch.equal(found[point], expected[point]) for point in ("0", "1"))


def test_wrong_points_and_no_images_are_told(network: TwoReaders, engine: Engine) -> None:
    with pytest.raises(UserError, match="did you mean 'tapped'"):
        channel_importance(network, ["taped"], [], engine)
    with pytest.raises(UserError, match="no images"):
        channel_importance(network, ["tapped"], [], engine)


def test_a_cell_has_a_score_per_output_channel_or_per_normalised_one(engine: Engine) -> None:
    torch.manual_seed(0)
    model = MODELS.parse({"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 3, "widths": (4, 6, 8)})
    spec = NetworkSpec(model=model, shape=(3, 8, 8), classes=4)
    darts = spec.build()
    batches = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))]
    estimate_statistics(darts, batches, engine)
    output = unit_importance(spec, darts, "output", batches, engine)
    assert [len(scores) for scores in output.values()] == [4 * 4, 4 * 6, 4 * 8]
    # The first cell: two preprocessors, five separable convolutions of two norms each, one dilated one.
    inside = unit_importance(spec, darts, "after-norm", batches, engine)
    assert len(unit_points(spec, darts, "after-norm")["cells.0"]) == 2 + 5 * 2 + 1
    assert len(inside["cells.0"]) == 13 * 4
    assert all((scores >= 0).all() and scores.sum() > 0 for scores in (*output.values(), *inside.values()))


def test_statistics_of_an_untrained_network_are_those_of_the_images(engine: Engine) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(2)).double()
    assert not is_trained(network)
    images = torch.randn(8, 2, 5, 5, dtype=torch.float64) * 3 + 1
    estimate_statistics(network, [(images, torch.zeros(8)), (images, torch.zeros(8))], engine)
    assert is_trained(network)
    torch.testing.assert_close(network[1].running_mean, images.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(network[1].running_var, images.var(dim=(0, 2, 3)))
    assert network[1].momentum == 0.1
    assert network.training
    assert network[1].training


def test_each_image_counts_alike_in_statistics_and_a_single_one_left_over_not_at_all(engine: Engine) -> None:
    network = nn.BatchNorm2d(2).double()
    images = torch.randn(11, 2, 1, 1, dtype=torch.float64) * 3 + 1
    parts = images.split([8, 2, 1])
    estimate_statistics(network, [(part, torch.zeros(len(part))) for part in parts], engine)
    torch.testing.assert_close(network.running_mean, images[:10].mean(dim=(0, 2, 3)))
    expected = 0.8 * parts[0].var(dim=(0, 2, 3)) + 0.2 * parts[1].var(dim=(0, 2, 3))
    torch.testing.assert_close(network.running_var, expected)
    with pytest.raises(UserError, match="score several at a time"):
        estimate_statistics(network, [(parts[2], torch.zeros(1))], engine)
