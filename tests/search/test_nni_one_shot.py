"""nni's one-shot strategies in our loop: every pair with a space, what a step changes, what is chosen, resumption."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.data.loaders import ImageBatches
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError
from nasdistill.models.nni_hub import alternatives
from nasdistill.registry import build, registry
from nasdistill.search.gradient import gradients_of, halves, optimizer_step
from nasdistill.search.one_shot import NniSupernet, OneShot, kind_of
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES, SearchResult
from nasdistill.search.strategies.nni_random_one_shot import accuracy
from nasdistill.search.strategies.random import sample
from nasdistill.stages import STAGES
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.records import Records
from tests.search.nni_tiny import SLOW, TINY
from tests.search.parts import Every, Killed, engine

pytest.importorskip("nni")

ONE_SHOT = {"epochs": 1, "batch_size": 16}
SUPERNETS = ("darts", "pc-darts", "gdas", "snas", "drnas", "beta-darts", "fair-darts", "sdarts", "p-darts")
"""Strategies that search spaces of cells by their supernet."""
QUICK: dict[str, dict[str, Any]] = {
    **dict.fromkeys(SUPERNETS, ONE_SHOT),
    "p-darts": {"epochs": 3, "batch_size": 16},
    "random-sharing": {**ONE_SHOT, "candidates": 2},
    "evolution": {"trials": 3, "population": 2, "sample": 1, "epochs": 1},
    "local-search": {"trials": 2, "epochs": 1},
    "random": {},
    "proxy": {"count": 1},
    "auto": {"epochs": 1},
    "successive-halving": {"candidates": 2},
    "nni:darts": ONE_SHOT,
    "nni:gumbel-darts": ONE_SHOT,
    "nni:proxyless": ONE_SHOT,
    "nni:random-one-shot": {**ONE_SHOT, "candidates": 2},
    "nni:tpe": {"trials": 3, "drawn": 2, "epochs": 1},
    "nni:evolution": {"trials": 3, "population": 2, "sample": 1, "epochs": 1},
    "nni:random-search": {"trials": 1, "epochs": 1},
}
MANY = (
    "evolution",
    "local-search",
    "proxy",
    "auto",
    "successive-halving",
    "nni:gumbel-darts",
    "nni:tpe",
    "nni:evolution",
)
OURS = ("darts", "darts-tiny", "nas-bench-201", "nas-bench-201-tiny", "residual", "s1", "s2", "s3", "s4")
BLOCKS = ("mobilenet", "mobilenet-tiny")
CELLS = ("nni:darts", "nni:enas", "nni:nasnet", "nni:amoeba", "nni:pnas")
REFUSED = {
    **{
        (strategy, space): "it needs a space of cells"
        for strategy in (*SUPERNETS, "random-sharing")
        for space in (*BLOCKS, *TINY)
    },
    **{
        (strategy, space): r"it needs one of nni's spaces \(nni:...\)"
        for strategy in ("nni:darts", "nni:gumbel-darts", "nni:proxyless", "nni:random-one-shot")
        for space in (*OURS, *BLOCKS)
    },
    **{("nni:proxyless", space): "between whole layers, not the states that a cell's nodes read" for space in CELLS},
    ("nni:proxyless", "nni:mobilenet-v3"): "between whole layers, not kernels and widths of layers",
}
CELL = {"name": "nni:nasbench201", **TINY["nni:nasbench201"]}
"""The quickest of nni's spaces; a label is an edge of the cell, the same in all three stacks."""


@pytest.fixture(autouse=True)
def _no_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a file was unpickled, or weights were fetched")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


@pytest.fixture(scope="module")
def digits() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(96)))


def search(space: Any, strategy: Any, data: Data, folder: Path, checkpoints: Checkpoints | None = None) -> SearchResult:
    records = Records(folder / "tensorboard", "test", quiet=True)
    checkpoints = checkpoints or Checkpoints(folder / "checkpoints")
    found: SearchResult = STRATEGIES.parse(strategy).search(
        SPACES.parse(space), data, engine(), 3, checkpoints, records
    )
    records.close()
    return found


def pairs() -> Iterator[Any]:
    """All; slow are large supernets, but for one strategy, and proxies and tuners on all nni's spaces but one."""
    for strategy, space in itertools.product(QUICK, [*OURS, *BLOCKS, *TINY]):
        large = space in SLOW and strategy != "nni:random-one-shot"
        many = strategy in MANY
        repeated = many and space in TINY and space != "nni:nasbench201"
        slow = (large or repeated) and (strategy, space) not in REFUSED
        yield pytest.param(strategy, space, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("strategy", "space"), pairs())
def test_every_pair_runs_or_is_refused_with_its_reason(strategy: str, space: str, digits: Data, tmp_path: Path) -> None:
    reason = REFUSED.get((strategy, space))
    config = {"space": {"name": space, **TINY.get(space, {})}, "strategy": {"name": strategy, **QUICK[strategy]}}
    if reason is not None:
        with pytest.raises(SpecError, match=reason) as caught:
            build(STAGES.get("search"), config)
        assert caught.value.path == ("strategy",)
        return
    stage: Any = build(STAGES.get("search"), config)
    if space in (*OURS, *BLOCKS):
        return  # that these run is tested elsewhere
    data = dataclasses.replace(digits, train=digits.train.subset(torch.arange(40)))
    found = search(stage.space, stage.strategy, data, tmp_path)
    network = registry("models").parse(found.model).build(data.shape, 10).train()
    logits = network(torch.randn(4, *data.shape))
    torch.autograd.backward(logits.square().mean())
    assert logits.shape == (4, 10)
    # A state that no node reads teaches its preprocessing nothing.
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_the_table_of_pairs_knows_all_strategies_and_spaces() -> None:
    assert set(STRATEGIES.names()) == set(QUICK)
    assert {name for name in SPACES.names() if not name.startswith("custom")} == {*OURS, *BLOCKS, *TINY}


def test_those_that_can_are_named() -> None:
    with pytest.raises(SpecError) as caught:
        build(STAGES.get("search"), {"space": "nni:enas", "strategy": "nni:proxyless"})
    able = str(caught.value).partition("strategies that can: ")[2].rstrip(")").split(", ")
    assert set(able) == {strategy for strategy in QUICK if (strategy, "nni:enas") not in REFUSED}


@pytest.mark.parametrize("strategy", ["nni:darts", "nni:gumbel-darts", "nni:proxyless", "nni:random-one-shot"])
def test_a_killed_search_ends_with_the_same_bits(strategy: str, digits: Data, tmp_path: Path) -> None:
    options = {"name": strategy, **QUICK[strategy], "epochs": 2}
    whole = Every(tmp_path / "whole")
    unbroken = search(CELL, options, digits, tmp_path / "a", whole)
    # Within the first epoch, and within the second: an epoch is 3 steps and the reading after them.
    for killed_after in (2, 6):
        folder = tmp_path / str(killed_after)
        with pytest.raises(Killed):
            search(CELL, options, digits, folder, Every(folder, killed_after))
        torch.manual_seed(99)  # another process draws other numbers
        again = Every(folder)
        resumed = search(CELL, options, digits, folder, again)
        assert (resumed.model, resumed.history) == (unbroken.model, unbroken.history)
        one, other = again.load(), whole.load()
        assert one is not None
        assert other is not None
        for part in ("supernet", "random"):
            assert one[part].keys() == other[part].keys()
            assert all(torch.equal(one[part][name], value) for name, value in other[part].items())


def supernet_of(strategy: str, space: Any = CELL, **options: Any) -> tuple[OneShot, NniSupernet, Any]:
    component = STRATEGIES.parse({"name": strategy, **options})
    hub_space = SPACES.parse(space).build(10)
    choices = alternatives(hub_space)
    return component, component.supernet(hub_space, (3, 8, 8)), choices


def test_a_step_moves_the_weights_on_the_drawn_path_alone() -> None:
    """Weight decay would shrink the others too, if they had gradients of zero."""
    _, supernet, choices = supernet_of("nni:random-one-shot")
    chosen = dict.fromkeys(choices, "conv_3x3")
    supernet.follow(chosen)
    before = {name: weight.detach().clone() for name, weight in supernet.named_parameters()}
    sgd = torch.optim.SGD(supernet.weights(), 0.1, 0.9, weight_decay=0.1)
    weights = supernet.weights()
    optimizer_step(sgd, weights, gradients_of(supernet(torch.randn(4, 3, 8, 8)).square().sum(), weights))
    moved = {name for name, weight in supernet.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "conv_1x1" not in name}


def test_a_path_is_the_network_that_nni_freezes_with_the_shared_weights() -> None:
    torch.manual_seed(0)
    _, supernet, choices = supernet_of("nni:random-one-shot")
    images = torch.randn(4, 3, 8, 8)
    outputs = []
    for seed in range(3):
        chosen = sample(choices, torch.Generator().manual_seed(seed))
        frozen = supernet.body.freeze(chosen).eval()
        supernet.eval().follow(chosen)
        outputs.append(supernet(images))
        torch.testing.assert_close(outputs[-1], frozen(images))
    assert not torch.equal(outputs[0], outputs[1])


def test_the_best_of_the_drawn_candidates_is_found(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where equal scores come again, and the images that score are none of those that taught."""
    scores = iter([20.0, 60.0, 40.0, 60.0])
    scored: list[tuple[float, dict[str, Any]]] = []
    weight_batches, architecture_batches = halves(digits, 16, engine(), seed=3)

    def told(_supernet: Any, chosen: dict[str, Any], batches: ImageBatches, *_rest: Any) -> float:
        assert torch.equal(batches.labels, architecture_batches.labels)
        assert not torch.equal(batches.labels, weight_batches.labels)
        scored.append((next(scores), chosen))
        return scored[-1][0]

    monkeypatch.setattr("nasdistill.search.strategies.nni_random_one_shot.accuracy", told)
    found = search(CELL, {"name": "nni:random-one-shot", **ONE_SHOT, "candidates": 4}, digits, tmp_path)
    assert found.model["choices"] == scored[1][1]
    assert found.metrics["supernet_accuracy"] == 60.0


def test_accuracy_is_that_of_the_path_with_the_batches_statistics(digits: Data) -> None:
    """A loop of its own, over nni's frozen network."""
    torch.manual_seed(0)
    _, supernet, choices = supernet_of("nni:random-one-shot")
    chosen = sample(choices, torch.Generator().manual_seed(5))
    _, architecture_batches = halves(digits, 16, engine(), seed=0)
    frozen = supernet.body.freeze(chosen).train()
    right = [
        int(frozen(batch.images.expand(-1, 3, -1, -1))[at].argmax()) == int(batch.labels[at])
        for batch in architecture_batches.epoch(7)
        for at in range(16)
    ]
    assert accuracy(supernet, chosen, architecture_batches, 7, engine()) == pytest.approx(100 * sum(right) / len(right))


def test_paths_are_drawn_uniformly_and_by_the_seed_alone() -> None:
    strategy, supernet, choices = supernet_of("nni:random-one-shot")
    label = "cell/0_1"
    module = next(m for m in supernet._choosing() if m.label == label)
    counts: Counter[str] = Counter()
    for seed in range(500):
        strategy.sample(supernet, choices, seed)
        counts[module._sampled] += 1
    assert set(counts) == set(choices[label])
    # Five alternatives of probability 1/5: five standard deviations.
    assert all(abs(count - 100) < 5 * math.sqrt(500 * 0.2 * 0.8) for count in counts.values())
    first = module._sampled
    strategy.sample(supernet, choices, 0)
    strategy.sample(supernet, choices, 499)
    assert module._sampled == first


def test_proxyless_draws_by_the_learned_probabilities_and_finds_the_likeliest(digits: Data) -> None:
    strategy, supernet, choices = supernet_of("nni:proxyless")
    for alpha in supernet.alphas():
        alpha.data = torch.tensor([0.0, 0.0, 2.0, 0.0, 0.0])
    share = math.exp(2) / (4 + math.exp(2))
    label = "cell/1_2"
    module = next(m for m in supernet._choosing() if m.label == label)
    counts: Counter[str] = Counter()
    torch.manual_seed(0)
    for seed in range(400):
        strategy.sample(supernet, choices, seed)
        counts[module._sampled] += 1
    third = choices[label][2]
    assert abs(counts[third] - 400 * share) < 5 * math.sqrt(400 * share * (1 - share))
    assert supernet.probabilities()[label] == pytest.approx(
        {name: share if name == third else (1 - share) / 4 for name in choices[label]}, rel=1e-5
    )
    _, architecture_batches = halves(digits, 16, engine(), seed=0)
    assert strategy.choose(supernet, choices, architecture_batches, engine(), 0) == (dict.fromkeys(choices, third), {})


def test_gumbel_noise_falls_in_temperature_and_is_left_out_of_what_is_told() -> None:
    strategy, supernet, _choices = supernet_of("nni:gumbel-darts", temperature=2.0, temperature_end=0.5, epochs=3)
    assert [strategy.temperature_at(epoch / 3) for epoch in range(3)] == pytest.approx([2.0, 1.5, 1.0])
    strategy.begin_epoch(supernet, 1)
    noisy = [module._softmax for module in supernet._choosing()]
    assert {softmax.tau for softmax in noisy} == {1.5}
    told = supernet.probabilities()
    assert told == supernet.probabilities()
    assert [module._softmax for module in supernet._choosing()] == noisy
    label, alphas = "cell/0_1", supernet._choosing()[0]._arch_alpha
    assert list(told[label].values()) == pytest.approx(alphas.softmax(0).tolist())
    images = torch.randn(2, 3, 8, 8)
    assert not torch.equal(supernet(images), supernet(images))
    with pytest.raises(SpecError, match="the temperature falls"):
        STRATEGIES.parse({"name": "nni:gumbel-darts", "temperature_end": 2.0})


@pytest.mark.parametrize("strategy", ["nni:gumbel-darts", "nni:proxyless"])
def test_what_nni_draws_is_a_function_of_seed_half_and_step(strategy: str, digits: Data) -> None:
    learner = STRATEGIES.parse({"name": strategy}).learner(SPACES.parse(CELL), digits, engine(), 7)
    batch = next(iter(halves(digits, 16, engine(), seed=0)[0].epoch(0)))
    for alpha in learner.alphas:
        alpha.data.zero_()

    def loss(state: int, half: str, step: int) -> float:
        torch.manual_seed(state)
        before = torch.get_rng_state()
        value = float(learner.loss(half, batch, step).detach())
        assert torch.equal(torch.get_rng_state(), before)
        return value

    assert loss(1, "training", 5) == loss(2, "training", 5)
    assert len({loss(1, half, step) for half in ("training", "validation") for step in range(5)}) == 10


def test_curves_tell_the_architecture_each_epoch(digits: Data, tmp_path: Path) -> None:
    checkpoints = Every(tmp_path / "checkpoints")
    found = search(CELL, {"name": "nni:darts", **ONE_SHOT, "epochs": 2, "alpha_lr": 0.1}, digits, tmp_path, checkpoints)
    curves = found.history["curves"]
    # At the start all five operations weigh about the same.
    assert curves["entropy/cell"][0] == [0, pytest.approx(math.log(5), abs=1e-4)]
    assert [epoch for epoch, _ in curves["alpha/cell/cell-0_1/conv_3x3"]] == [0, 1, 2]
    assert [value for _, value in curves["learning rate"]] == pytest.approx([0.025, 0.013])
    assert len(curves["train/loss"]) == len(curves["validation/accuracy"]) == 2
    state = checkpoints.load()
    assert state is not None
    # cells share their alphas, which a state dict holds under each of their names
    held = [value for name, value in state["supernet"].items() if "_arch_alpha" in name]
    alphas = list({tuple(value.tolist()): value for value in held}.values())
    assert len(alphas) == len(found.model["choices"]) == 6
    for label, chosen in found.model["choices"].items():
        last = {name: curves[f"alpha/cell/{label.replace('/', '-')}/{name}"][-1][1] for name in OPERATIONS}
        assert chosen == max(last, key=last.__getitem__)
        assert any(list(last.values()) == pytest.approx(alpha.softmax(0).tolist(), rel=1e-5) for alpha in alphas)


# Dong and Yang 2020, NAS-Bench-201, section 2.1.
OPERATIONS = ("none", "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3")


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("s2_i0_exp", "exp"),
        ("s0_width_mult", "width_mult"),
        ("layer_3", "layer"),
        ("s2_i0", "layer"),
        ("stem_ks", "stem_ks"),
    ],
)
def test_labels_are_told_by_kind(label: str, kind: str) -> None:
    assert kind_of(label) == kind


def test_the_rate_must_fall() -> None:
    with pytest.raises(SpecError, match="lr_end"):
        STRATEGIES.parse({"name": "nni:darts", "lr": 0.01, "lr_end": 0.1})
