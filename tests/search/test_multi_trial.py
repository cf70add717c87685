"""Multi-trial search: a trial against a loop written out, equal architectures, limits, kills, images left unseen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from nasdistill.data.base import Data
from nasdistill.data.loaders import ImageBatches
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError, UserError
from nasdistill.registry import build, registry
from nasdistill.search import multi_trial
from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.spaces import SPACES, SearchSpace
from nasdistill.search.strategies import SearchResult
from nasdistill.search.trials import ArchitectureTrial
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.losses import Diverged
from nasdistill.training.records import Records
from tests.search.parts import Killed, engine

pytest.importorskip("nni")

CELLS = SPACES.parse(
    {
        "name": "custom",
        "operations": ["none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"],
        "nodes": 2,
        "search_channels": 4,
        "search_cells": 3,
        "channels": 6,
        "cells": 4,
        "stem_multiplier": 1,
        "auxiliary": True,
        "drop_path": 0.3,
    }
)
STRATEGIES = {
    "nni:evolution": {"population": 4, "sample": 2},
    "nni:tpe": {"drawn": 4},
    "nni:random-search": {},
}


class Perceptrons(SearchSpace):
    """Two hidden layers: 3 * 3 architectures, of which (8, 0) and (0, 8) are one, as are others that agree."""

    widths: tuple[int, ...] = (0, 8, 32)

    def choices(self, shape: Any, classes: int) -> dict[str, tuple[Any, ...]]:
        return {"first": self.widths, "second": self.widths, "classifier": ("linear",)}

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        assert chosen["classifier"] == "linear"
        return {"name": "mlp", "hidden": [width for width in (chosen["first"], chosen["second"]) if width]}


class Unseen:
    """Images that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} of images that no search may see was asked for")

    def __len__(self) -> int:
        raise AssertionError("images that no search may see were counted")


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    unseen: Any = Unseen()
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(300)), validation=unseen, test=unseen)


def strategy(name: str = "nni:random-search", **options: Any) -> MultiTrial:
    common = {"trials": 8, "epochs": 2, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.05}}
    parsed: MultiTrial = registry("strategies").parse({"name": name, **common, **STRATEGIES[name], **options})
    return parsed


class Counted(Checkpoints):
    """Counts the steps; saves the one after which it dies."""

    def __init__(self, folder: Path, killed_after: int | None = None) -> None:
        super().__init__(folder)
        self.left = killed_after
        self.steps = 0

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        self.steps += 1
        if self.steps == self.left:
            self.save(number, capture())
            raise Killed


def search(
    searcher: MultiTrial, data: Data, folder: Path, space: SearchSpace | None = None, killed_after: int | None = None
) -> tuple[SearchResult, int]:
    """What is found, and the steps that it took."""
    checkpoints = Counted(folder / "checkpoints", killed_after)
    records = Records(folder / "tensorboard", "test", quiet=True)
    found = searcher.search(space or build(Perceptrons, {}), data, engine(), 3, checkpoints, records)
    return found, checkpoints.steps


def test_each_trial_is_the_plain_loop_on_images_that_it_is_not_scored_on(data: Data, tmp_path: Path) -> None:
    searcher = strategy(trials=2, epochs=3)
    found, _ = search(searcher, data, tmp_path, CELLS)
    trials = found.trials["trials"]
    assert trials[0]["chosen"] != trials[1]["chosen"]
    for trial in trials:
        whole = registry("models").parse({**CELLS.model(trial["chosen"]), "auxiliary": False}).build((1, 8, 8), 10)
        assert trial["parameters"] == sum(weight.numel() for weight in whole.parameters())
        assert trial["curve"] == pytest.approx(plain_curve(searcher, trial["chosen"], data))
        assert trial["score"] == max(trial["curve"]) > 20


def plain_curve(searcher: MultiTrial, chosen: Mapping[str, Any], data: Data) -> list[float]:
    """The score after each of three epochs of an architecture of `CELLS`, at the size that a search trains."""
    torch.manual_seed(3)
    described = {**CELLS.model(chosen), "channels": 4, "cells": 3, "auxiliary": False}
    network = registry("models").parse(described).build((1, 8, 8), 10)
    network.to(memory_format=torch.channels_last)
    training, scoring = searcher._parts(data, engine(), 3)
    sgd = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 3 * len(training))
    curve = []
    for epoch in range(3):
        network.train()
        for batch in training.epoch(epoch):
            sgd.zero_grad()
            functional.cross_entropy(network(batch.images), batch.labels).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5)
            sgd.step()
            schedule.step()
        network.eval()
        right = [network(batch.images).argmax(1) == batch.labels for batch in scoring.epoch(0)]
        curve.append(100 * float(torch.cat(right).double().mean()))
    return curve


def pixels(batches: ImageBatches) -> torch.Tensor:
    return torch.cat([batch.images for batch in batches.epoch(0)]).flatten(1)


def test_the_images_that_score_teach_nothing_and_are_alike_in_class(data: Data) -> None:
    training, scoring = strategy(scoring=0.3)._parts(data, engine(), 0)
    assert (len(training.labels), len(scoring.labels)) == (210, 90)
    assert torch.cdist(pixels(training), pixels(scoring)).min() > 0
    together = training.labels.bincount() + scoring.labels.bincount()
    assert torch.allclose(scoring.labels.bincount() / together, torch.tensor(0.3), atol=0.03)
    with pytest.raises(UserError, match="300 training images are too few"):
        strategy(scoring=0.001)._parts(data, engine(), 0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_any_space_is_searched_and_the_best_of_the_trials_is_found(name: str, data: Data, tmp_path: Path) -> None:
    found, _ = search(strategy(name), data, tmp_path)
    trials = found.trials["trials"]
    assert len(trials) == found.metrics["trials"] == 8
    best = trials[found.trials["best"]]
    assert best["score"] == max(trial["score"] for trial in trials) == found.metrics["score"]
    hidden = [width for width in (best["chosen"]["first"], best["chosen"]["second"]) if width]
    assert found.model == {"name": "mlp", "hidden": hidden}
    sizes = [64, *hidden, 10]
    assert best["parameters"] == sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))


def test_equal_architectures_are_trained_once(data: Data, tmp_path: Path) -> None:
    found, steps = search(strategy(trials=9), data, tmp_path)
    trials = found.trials["trials"]
    hidden = [[width for width in (t["chosen"]["first"], t["chosen"]["second"]) if width] for t in trials]
    # All nine pairs of widths were tried, which are seven networks: of one layer, 8 and 32 come twice.
    assert len(trials) == 9
    assert found.metrics["trained"] == len(set(map(str, hidden))) == 7
    for number, trial in enumerate(trials):
        first = hidden.index(hidden[number])
        assert trial["like"] == (None if first == number else first)
        assert trial["curve"] == trials[first]["curve"]
    an_epoch = -(-240 // 32)
    assert steps == 7 * (2 * (an_epoch + 1) + 1)


def test_a_search_of_all_there_is_ends(data: Data, tmp_path: Path) -> None:
    found, _ = search(strategy(trials=100, epochs=1), data, tmp_path)
    assert found.metrics["trials"] == 9


@pytest.mark.parametrize("name", STRATEGIES)
# Within the first trial, at its last step, late.
@pytest.mark.parametrize("killed_after", [3, 18, 40])
def test_a_killed_search_ends_with_the_same_bits(name: str, data: Data, tmp_path: Path, killed_after: int) -> None:
    searcher = strategy(name, stop_below_median=2)
    unbroken, steps = search(searcher, data, tmp_path / "unbroken")
    with pytest.raises(Killed):
        search(searcher, data, tmp_path / "killed", killed_after=killed_after)
    torch.manual_seed(99)
    resumed, rest = search(searcher, data, tmp_path / "killed")
    assert resumed == unbroken
    assert rest == steps - killed_after  # what was done is not done again


def test_networks_above_the_limit_are_not_trained(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited, _ = search(strategy("nni:tpe", trials=12), data, tmp_path / "unlimited")
    assert max(trial["parameters"] for trial in unlimited.trials["trials"]) > 2000
    limited, steps = search(strategy("nni:tpe", trials=12, max_parameters=1000), data, tmp_path / "limited")
    trials = limited.trials["trials"]
    # Of the seven networks those that begin with 32 have more: 64 * 32 weights.
    assert {trial["chosen"]["first"] for trial in trials} <= {0, 8}
    assert all(trial["parameters"] <= 1000 for trial in trials)
    assert sum(trial["too_large"] for trial in trials) > 0
    assert steps == limited.metrics["trained"] * 19
    with pytest.raises(Killed):
        search(strategy("nni:tpe", trials=12, max_parameters=1000), data, tmp_path / "killed", killed_after=30)
    resumed, _ = search(strategy("nni:tpe", trials=12, max_parameters=1000), data, tmp_path / "killed")
    assert resumed == limited
    monkeypatch.setattr("nasdistill.search.trials.MOST_TOO_LARGE", 20)
    with pytest.raises(UserError, match="20 architectures in a row have more than 100 parameters"):
        search(strategy("nni:tpe", max_parameters=100), data, tmp_path / "none")


def test_a_trial_that_falls_behind_is_stopped(data: Data, tmp_path: Path) -> None:
    options = {"trials": 9, "epochs": 4}
    free = {
        json.dumps(t["chosen"]): t for t in search(strategy(**options), data, tmp_path / "free")[0].trials["trials"]
    }
    found, _ = search(strategy(**options, stop_below_median=2), data, tmp_path / "median")
    whole: list[list[float]] = []
    stopped = 0
    for trial in (each for each in found.trials["trials"] if each["like"] is None):
        alone = free[json.dumps(trial["chosen"])]["curve"]
        assert trial["curve"] == alone[: len(trial["curve"])]
        ends = 4
        for epoch in (2, 3):
            means = sorted(sum(curve[:epoch]) / epoch for curve in whole)
            if means and max(alone[:epoch]) < means[(len(means) - 1) // 2]:
                ends = epoch
                break
        assert len(trial["curve"]) == ends
        if ends == 4:
            whole.append(trial["curve"])
        else:
            stopped += 1
            assert trial["stopped"] == "below the median of the trials before"
    assert stopped > 0


def test_trials_that_were_stopped_do_not_move_the_limit() -> None:
    trials = [
        ArchitectureTrial({}, 1, 0, [50.0, 70.0]),
        ArchitectureTrial({}, 1, 0, [10.0], stopped="below"),
        ArchitectureTrial({}, 1, 0, [40.0, 60.0]),
    ]
    # Means up to the second epoch are 60 and 50; their lower median is the limit.
    assert strategy(stop_below_median=2)._limits(trials) == [None, 50.0]
    trials.append(ArchitectureTrial({}, 1, 0, [90.0, 90.0], like=0))
    assert strategy(stop_below_median=2)._limits(trials) == [None, 50.0]


def test_patience_stops_a_trial(data: Data, tmp_path: Path) -> None:
    found, _ = search(strategy(trials=2, epochs=30, patience=2), data, tmp_path)
    for trial in found.trials["trials"]:
        curve = trial["curve"]
        assert len(curve) < 30
        assert max(curve[-2:]) <= max(curve[:-2])
        assert "2 evaluations" in trial["stopped"]


def test_a_trial_that_diverges_has_no_score(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = multi_trial.fit

    def fails(task: Any, *rest: Any) -> Any:
        if len(task.network.hidden) == 2:
            raise Diverged("the loss is nan")
        return fit(task, *rest)

    monkeypatch.setattr(multi_trial, "fit", fails)
    found, _ = search(strategy(trials=9), data, tmp_path)
    for trial in found.trials["trials"]:
        deep = bool(trial["chosen"]["first"] and trial["chosen"]["second"])
        assert (trial["score"] is None) == (trial["stopped"] == "diverged") == deep
    with pytest.raises(UserError, match="none of 2 trials has a score: all diverged"):
        search(strategy(trials=2, optimizer={"name": "sgd", "lr": 1e30}, epochs=9), data, tmp_path / "all")


@pytest.mark.parametrize(
    ("name", "options", "path", "words"),
    [
        ("nni:evolution", {"population": 8}, ("population",), "less than the number of trials, 8, got 8"),
        ("nni:tpe", {"drawn": 9}, ("drawn",), "less than the number of trials, 8, got 9"),
        ("nni:tpe", {"trial": 9}, ("trial",), "did you mean 'trials'"),
        ("nni:random-search", {"scoring": 1}, ("scoring",), "less than 1"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, Any], path: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        strategy(name, **options)
    assert caught.value.path == path


def test_a_space_without_a_choice_is_refused(data: Data, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one architecture"):
        search(strategy(), data, tmp_path, build(Perceptrons, {"widths": (8,)}))


def test_without_nni_it_is_told_what_to_install(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"'nni:random-search' needs nni, not installed here: pip install 'nni"):
        search(strategy(), data, tmp_path)
