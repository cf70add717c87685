"""Evolution and local search: what they suggest, warm starts, shared weights, kills; none of it needs nni."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.component import Facts, idle_options
from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError
from nasdistill.registry import registry
from nasdistill.report.sections.trials import SearchTrials
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES, SearchResult
from nasdistill.search.strategies.evolution import Ageing
from nasdistill.search.strategies.local_search import Climb
from tests.search.parts import Every, Killed, engine

COUNTS = {"one": 2, "two": 3, "three": 4}
SIZE = {"search_channels": 4, "search_cells": 1, "channels": 4, "cells": 1, "stages": 2}
CELLS = SPACES.parse({"name": "nas-bench-201", **SIZE})
ONE_EDGE = SPACES.parse({"name": "nas-bench-201", "nodes": 1, **SIZE})
TRAINED = {"epochs": 1, "batch_size": 32}
SHARED = {"shared_weights": {"epochs": 1, "batch_size": 16}}
WARM = {"warm_start": {"proxy": ["synflow", "params"], "count": 6, "images": 8}}
EVOLUTION = {"name": "evolution", "trials": 6, "population": 3, "sample": 2}


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(80)))


def search(data: Data, config: dict[str, Any], folder: Path | None = None, **where: Any) -> SearchResult:
    space = where.pop("space", CELLS)
    checkpoints = None if folder is None else Every(folder, **where)
    found: SearchResult = STRATEGIES.parse(config).search(space, data, engine(), 3, checkpoints)
    return found


def differences(one: dict[str, int], other: dict[str, int]) -> int:
    return sum(one[label] != other[label] for label in COUNTS)


def test_a_mutation_changes_one_choice_and_reaches_all_neighbours() -> None:
    tuner, parent = Ageing(COUNTS, 0, population=3, rivals=1), {"one": 1, "two": 0, "three": 2}
    children = [tuner.mutated(parent) for _ in range(400)]
    assert {differences(child, parent) for child in children} == {1}
    counts = {str(child): children.count(child) / 400 for child in children}
    assert len(counts) == sum(COUNTS.values()) - 3
    # Any choice is as likely to change, whatever its alternatives.
    assert counts[str({**parent, "one": 0})] == pytest.approx(1 / 3, abs=0.08)
    assert counts[str({**parent, "three": 0})] == pytest.approx(1 / 9, abs=0.05)


def test_the_oldest_dies_however_good_and_the_best_rival_has_the_child() -> None:
    tuner = Ageing(COUNTS, 0, population=3, rivals=40)
    born = []
    for score in (9.0, None, 5.0, 7.0):
        born.append(tuner.ask())
        tuner.tell(score)
    assert [score for _member, score in tuner.members] == [9.0, 5.0, 7.0], "what has no score does not live"
    # All members are all but surely among 40 rivals.
    assert differences(tuner.ask(), born[0]) == 1
    tuner.tell(1.0)
    assert [score for _member, score in tuner.members] == [5.0, 7.0, 1.0]
    assert differences(tuner.ask(), born[3]) == 1


def height(architecture: dict[str, int]) -> float:
    """Two peaks, where all indices are 0, the lower one, and where all are 4."""
    distance = sum(architecture.values())
    return max(10.0 - 3 * distance, 20.0 - 3 * (3 * 4 - distance))


class Watched(Climb):
    """Remembers where it stood when it began anew."""

    def __init__(self, seed: int) -> None:
        super().__init__(dict.fromkeys("abc", 5), seed)
        self.ends: list[tuple[int, ...]] = []

    def _drawn(self) -> tuple[int, ...]:
        self.ends += [] if self.centre is None else [self.centre]
        return super()._drawn()


def test_a_climb_ends_on_local_optima_and_begins_anew() -> None:
    heights = {place: height(dict(zip("abc", place, strict=True))) for place in itertools.product(range(5), repeat=3)}

    def is_top(place: tuple[int, ...]) -> bool:
        near = [each for each in heights if sum(one != other for one, other in zip(each, place, strict=True)) == 1]
        assert len(near) == 12
        return all(heights[each] <= heights[place] for each in near)

    ends = []
    for seed in range(6):
        tuner, tried = Watched(seed), set()
        while (asked := tuner.ask()) is not None:
            place = tuple(asked.values())
            assert place not in tried
            tried.add(place)
            tuner.tell(heights[place])
        assert tried == heights.keys()
        assert all(map(is_top, tuner.ends))
        ends += tuner.ends
    assert {(0, 0, 0), (4, 4, 4)} <= set(ends)


def test_failures_are_left_behind_by_a_climb() -> None:
    tuner = Climb(COUNTS, 0)
    for _ in range(math.prod(COUNTS.values())):
        assert tuner.ask() is not None
        tuner.tell(None)
    assert tuner.ask() is None


@pytest.mark.parametrize(
    "config",
    [
        {**EVOLUTION, **TRAINED, **WARM},
        {**EVOLUTION, **SHARED},
        {"name": "local-search", "trials": 5, **TRAINED},
    ],
    ids=["warm evolution", "evolution on shared weights", "local search"],
)
def test_a_killed_search_ends_with_the_same_bits(
    config: dict[str, Any], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)  # nni is not needed
    whole = search(data, config)
    for killed_after in (2, 9):
        with pytest.raises(Killed):
            search(data, config, tmp_path / str(killed_after), killed_after=killed_after)
        torch.manual_seed(99)
        resumed = search(data, config, tmp_path / str(killed_after))
        assert dataclasses.replace(resumed, metrics=whole.metrics) == whole
    trials = SearchTrials.model_validate(whole.trials)
    assert len(trials.trials) == config["trials"]
    assert whole.history["found"][-1] == [config["trials"] - 1, whole.model]


def test_a_warm_start_begins_with_the_best_by_the_proxies(data: Data) -> None:
    warm = search(data, {**EVOLUTION, **TRAINED, **WARM}).trials["trials"]
    scored = search(data, {"name": "proxy", **WARM["warm_start"]}).trials["trials"]
    best = sorted(scored, key=lambda trial: (-trial["score"], trial["parameters"]))[:3]
    assert [trial["chosen"] for trial in warm[:3]] == [trial["chosen"] for trial in best]
    most = sorted(trial["parameters"] for trial in scored)[3]
    limited = search(data, {**EVOLUTION, **TRAINED, **WARM, "max_parameters": most}).trials["trials"]
    assert all(trial["parameters"] <= most for trial in limited)
    assert sum(trial["too_large"] for trial in limited[:3]) == 0, "those that are too large are left out before"


def test_shared_weights_are_those_of_random_sharing(data: Data) -> None:
    of_one = {
        json.dumps(trial["chosen"]): trial["score"] for trial in one_edge(data, "local-search", trials=9, **SHARED)
    }
    options = {**SHARED["shared_weights"], "candidates": 40}
    of_other = {json.dumps(trial["chosen"]): trial["score"] for trial in one_edge(data, "random-sharing", **options)}
    assert of_one == of_other
    assert len(of_one) == 5
    assert len(set(of_one.values())) > 2


def one_edge(data: Data, name: str, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = search(data, {"name": name, **options}, space=ONE_EDGE).trials["trials"]
    return found


def test_cells_that_are_one_function_are_evaluated_once(data: Data) -> None:
    two_operations = {**SIZE, "operations": ["none", "skip_connect"], "nodes": 2}
    space = SPACES.parse({"name": "nas-bench-201", **two_operations})
    found = search(data, {"name": "local-search", "trials": 9, **TRAINED}, space=space)
    forms = [space.canonical(trial["chosen"]) for trial in found.trials["trials"]]
    assert len(forms) == 8
    assert found.metrics["trained"] == len(set(forms)) < 8
    for trial, form in zip(found.trials["trials"], forms, strict=True):
        assert (trial["like"] is None) == (forms.index(form) == found.trials["trials"].index(trial))


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(SpecError, match="2 architectures are too few for a population of 3") as caught:
        STRATEGIES.parse({**EVOLUTION, "warm_start": {"count": 2}})
    assert caught.value.path == ("warm_start", "count")
    with pytest.raises(SpecError, match="did you mean 'count'") as caught:
        STRATEGIES.parse({**EVOLUTION, "warm_start": {"counts": 20}})
    assert caught.value.path == ("warm_start", "counts")
    shared = STRATEGIES.parse({**EVOLUTION, **SHARED, "epochs": 3})
    assert shared.reason_to_refuse(SPACES.parse("nas-bench-201")) is None
    assert list(idle_options(shared, Facts(classes=2), "strategy")) == [
        "strategy.epochs has no effect: architectures are scored with shared weights and not trained"
    ]
