"""The search loops: against plain torch written out, killed and taken up again, and what they tell."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError
from nasdistill.models.genotypes import Genotype
from nasdistill.registry import build, registry
from nasdistill.search.bilevel import second_order
from nasdistill.search.gradient import gradients_of, halves, optimizer_step
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES, SearchResult
from nasdistill.search.strategies.darts import DartsSearch
from nasdistill.search.supernet import Supernet
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.losses import Diverged
from nasdistill.training.optimizers.standard import SGD
from nasdistill.training.records import Records
from tests.search.parts import Every, Killed, engine

SPACE = SPACES.parse(
    {
        "name": "custom",
        "operations": ["none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"],
        "nodes": 2,
        "search_channels": 4,
        "search_cells": 3,
        "stem_multiplier": 1,
    }
)


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(96)))


def search(
    strategy: DartsSearch, data: Data, folder: Path, killed_after: int | None = None, precision: str = "32"
) -> tuple[SearchResult, dict[str, Any]]:
    checkpoints = Every(folder / "checkpoints", killed_after)
    records = Records(folder / "tensorboard", "test", quiet=True)
    found = strategy.search(SPACE, data, engine(precision), 3, checkpoints, records)
    state = checkpoints.load()
    assert state is not None
    return found, state


def test_nothing_is_on_disk_unless_asked_for(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alone = darts(epochs=1).search(SPACE, data, engine(), 3)
    assert list(tmp_path.iterdir()) == []
    assert cells_of(alone) == cells_of(search(darts(epochs=1), data, tmp_path)[0])


def cells_of(found: SearchResult) -> Genotype:
    return Genotype.model_validate(found.model["genotype"])


def darts(**options: Any) -> DartsSearch:
    return build(DartsSearch, {"epochs": 2, "batch_size": 16, **options})


@pytest.mark.parametrize("order", [1, 2])
def test_the_search_is_the_published_loop(data: Data, tmp_path: Path, order: int) -> None:
    _, state = search(darts(order=order), data, tmp_path)

    torch.manual_seed(3)
    supernet = Supernet(SPACE, data.shape, 10).to(memory_format=torch.channels_last)
    weights, alphas = supernet.weights(), supernet.alphas()
    sgd = torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 2, eta_min=0.001)
    adam = torch.optim.Adam(alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    training, validation = halves(data, darts().batch_size, engine(), seed=3)

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return functional.cross_entropy(supernet(batch[0]), batch[1])

    for epoch in range(2):
        for one, other in zip(training.epoch(epoch), validation.epoch(epoch), strict=True):
            if order == 1:
                gradients = torch.autograd.grad(loss(other), alphas)
            else:
                rate = sgd.param_groups[0]["lr"]
                buffers = [sgd.state[w].get("momentum_buffer", torch.zeros_like(w)) for w in weights]
                gradients = second_order(
                    lambda one=one: loss(one),
                    lambda other=other: loss(other),
                    weights,
                    alphas,
                    learning_rate=rate,
                    velocities=buffers,
                    momentum=0.9,
                    weight_decay=3e-4,
                )
            for alpha, gradient in zip(alphas, gradients, strict=True):
                alpha.grad = gradient
            adam.step()
            supernet.zero_grad()
            loss(one).backward()
            torch.nn.utils.clip_grad_norm_(weights, 5)
            sgd.step()
        schedule.step()

    torch.testing.assert_close(state["supernet"], dict(supernet.state_dict()))


def test_halves_share_no_image_and_every_class_alike(data: Data) -> None:
    one, other = halves(data, darts().batch_size, engine(), seed=0)
    images = [torch.cat([images for images, *_ in half.epoch(0)]).flatten(1) for half in (one, other)]
    assert [len(half) for half in images] == [48, 48]
    assert torch.cdist(images[0], images[1]).min() > 0
    counts = [torch.cat([labels for _, labels, *_ in half.epoch(0)]).bincount(minlength=10) for half in (one, other)]
    assert int((counts[0] - counts[1]).abs().max()) <= 1


@pytest.mark.parametrize("spec", [{"name": "cutout", "size": 8}, "erasing", "mixup"])
def test_cutout_and_mixed_labels_are_left_out(data: Data, spec: Any) -> None:
    augmented = dataclasses.replace(data, augmentations=(registry("augmentations").parse(spec),))
    plain, cut = (halves(part, darts().batch_size, engine(), seed=0)[0] for part in (data, augmented))
    assert torch.equal(next(plain.epoch(0))[0], next(cut.epoch(0))[0])


@pytest.mark.parametrize(("options", "precision"), [({}, "32"), ({}, "bf16"), ({"order": 2}, "bf16")])
# Within an epoch, at its last step, at its edge, in the next one: an epoch is 3 steps and the reading after them.
@pytest.mark.parametrize("killed_after", [2, 3, 4, 6])
def test_a_killed_search_ends_with_the_same_bits(
    data: Data, tmp_path: Path, options: dict[str, Any], precision: str, killed_after: int
) -> None:
    strategy = darts(**options)
    unbroken, whole = search(strategy, data, tmp_path / "unbroken", precision=precision)
    with pytest.raises(Killed):
        search(strategy, data, tmp_path / "killed", killed_after, precision)
    torch.manual_seed(99)  # another process draws other numbers
    resumed, state = search(strategy, data, tmp_path / "killed", precision=precision)
    assert resumed.model == unbroken.model
    assert resumed.history == unbroken.history
    for part in ("supernet", "random"):
        assert all(torch.equal(state[part][name], value) for name, value in whole[part].items())
    for part in ("sgd", "adam"):
        for index, values in whole[part]["state"].items():
            again = state[part]["state"][index]
            assert all(torch.equal(torch.as_tensor(again[name]), torch.as_tensor(v)) for name, v in values.items())


def test_curves_tell_the_architecture_each_epoch(data: Data, tmp_path: Path) -> None:
    found, state = search(darts(), data, tmp_path)
    curves = found.history["curves"]
    assert [epoch for epoch, _ in curves["alpha/normal/4/sep_conv_3x3"]] == [0, 1, 2]
    last = state["supernet"]["reduce"].softmax(dim=1)[1].tolist()
    assert [curves[f"alpha/reduce/1/{name}"][-1][1] for name in SPACE.operations] == pytest.approx(last)
    # At the start all four operations weigh about the same.
    assert curves["entropy/normal"][0][1] == pytest.approx(math.log(4), abs=1e-4)
    skips = sum(operation == "skip_connect" for node in cells_of(found).normal for operation, _ in node)
    assert curves["skips/normal"][-1] == [2, skips]
    assert [value for _, value in curves["learning rate"]] == pytest.approx([0.025, 0.013])
    assert len(curves["train/loss"]) == len(curves["validation/loss"]) == 2
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert found.metrics["samples_per_second"] > 0


def bias_towards_skips(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """From the epoch `after` on, the search sees skip connections win everywhere."""
    mixture = Supernet.mixture
    calls = 0

    def biased(self: Supernet, moment: Moment) -> tuple[Mixture, ...]:
        nonlocal calls
        normal, reduce = mixture(self, moment)
        if moment.half:
            return normal, reduce
        calls += 1
        shift = torch.tensor([0.0, 0.0 if calls <= after else 9.0, 0.0, 0.0])
        return dataclasses.replace(normal, weights=normal.weights + shift), reduce

    monkeypatch.setattr(Supernet, "mixture", biased)


def test_a_collapse_is_warned_of(data: Data, tmp_path: Path, caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    bias_towards_skips(monkeypatch, after=0)
    with caplog.at_level(logging.WARNING):
        found, _ = search(darts(epochs=1), data, tmp_path)
    assert "after epoch 1, 4 of the 4 edges of the normal cell are skip connections" in caplog.text
    assert {operation for node in cells_of(found).normal for operation, _ in node} == {"skip_connect"}


def test_a_stop_keeps_the_cells_before_the_collapse(data: Data, tmp_path: Path, monkeypatch) -> None:
    before, _ = search(darts(epochs=1, lr_end=0.025, max_skips=4), data, tmp_path / "one")
    bias_towards_skips(monkeypatch, after=2)
    strategy = darts(epochs=5, lr=0.025, lr_end=0.025, max_skips=3, on_collapse="stop")
    found, _ = search(strategy, data, tmp_path / "stopped")
    assert found.history["curves"]["skips/normal"][-1] == [2, 4]
    assert found.metrics["epochs"] == 2
    assert found.model == before.model
    # A stopped search that is asked for again stays stopped.
    again, _ = search(strategy, data, tmp_path / "stopped")
    assert (again.model, again.history) == (found.model, found.history)


def test_a_search_that_diverges_names_the_step(data: Data, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="step"):
        search(darts(lr=1e30, lr_end=1e30, clip=1e30, epochs=20), data, tmp_path)


def test_a_step_takes_gradients_however_they_lie_in_memory_and_whenever_they_come() -> None:
    weights = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2))]
    sgd = SGD(lr=1.0, momentum=0.5, nesterov=False, weight_decay=0.0).build(weights)
    factor = torch.arange(6.0).view(3, 2)
    optimizer_step(sgd, weights, gradients_of(weights[0].sum() + (weights[1].T * factor).sum(), weights))
    optimizer_step(sgd, weights, gradients_of(weights[0].sum() + weights[2].sum(), weights))
    assert weights[0].tolist() == [[-2.5] * 3] * 2
    assert torch.equal(weights[1], -factor.T)
    assert weights[2].tolist() == [-1.0, -1.0]


def test_the_rate_must_fall() -> None:
    with pytest.raises(SpecError, match="lr_end"):
        STRATEGIES.parse({"name": "darts", "lr": 0.01, "lr_end": 0.1})


def drawn(seed: int, data: Data, tmp_path: Path) -> SearchResult:
    space = SPACES.parse("darts")
    records = Records(tmp_path, "test", quiet=True)
    found: SearchResult = STRATEGIES.parse("random").search(space, data, engine(), seed, Checkpoints(tmp_path), records)
    return found


def test_random_cells_are_valid_and_the_seeds_alone(data: Data, tmp_path: Path) -> None:
    found = [cells_of(drawn(seed, data, tmp_path)) for seed in range(200)]
    assert found[7] == cells_of(drawn(7, data, tmp_path))
    assert len(set(map(str, found))) == 200
    nodes = [node for genotype in found for node in genotype.normal]
    assert all(len(node) == 2 and node[0][1] < node[1][1] for node in nodes)
    operations = [operation for node in nodes for operation, _ in node]
    # Seven operations without "none", each drawn with probability 1/7: 1600 draws, five standard deviations.
    counts = [operations.count(name) for name in SPACES.parse("darts").operations if name != "none"]
    assert sum(counts) == 1600
    assert all(abs(count - 1600 / 7) < 5 * math.sqrt(1600 * 6 / 49) for count in counts)


def test_noise_is_the_same_for_all_passes_of_a_step_so_that_the_second_order_is_one(data: Data) -> None:
    """Fresh noise in each pass would drown differences over a step of 0.01."""
    options = {"search_channels": 2, "search_cells": 3, "nodes": 1, "stem_multiplier": 1}
    space = SPACES.parse({"name": "s4", **options})
    learner = darts(order=2).learner(space, data, engine(), 0)
    batches = [next(half.epoch(0)) for half in halves(data, 16, engine(), seed=3)]
    assert torch.equal(learner.loss("training", batches[0], 0), learner.loss("training", batches[0], 0))
    assert not torch.equal(learner.loss("training", batches[0], 0), learner.loss("training", batches[0], 1))
