"""Search by proxies: every architecture of a small space, one size for all, kills, what it tells."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import UserError
from nasdistill.models.inspection import count_parameters
from nasdistill.registry import build, registry
from nasdistill.report.sections.trials import SearchTrials, TrialsOfSearch, table
from nasdistill.search.proxies import PROXIES
from nasdistill.search.spaces import SPACES, SearchSpace
from nasdistill.search.strategies import SearchResult
from nasdistill.search.strategies.proxy import ProxySearch
from nasdistill.search.strategies.random import in_random_order
from nasdistill.search.untrained import highest, standings
from nasdistill.training.records import Records
from tests.search.parts import Every, Killed, engine


class Perceptrons(SearchSpace):
    """Two hidden layers: 9 architectures, without ReLUs where both are left out."""

    widths: tuple[int, ...] = (0, 8, 32)

    def choices(self, shape: Any, classes: int) -> dict[str, tuple[Any, ...]]:
        return {"first": self.widths, "second": self.widths}

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": "mlp", "hidden": [width for width in (chosen["first"], chosen["second"]) if width]}


PERCEPTRONS = build(Perceptrons, {})


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(200)))


def searched(data: Data, space: SearchSpace = PERCEPTRONS, **options: Any) -> SearchResult:
    return build(ProxySearch, {"proxy": "params", **options}).search(space, data, engine(), 3)


def parameters(chosen: Mapping[str, int]) -> int:
    return parameters_of([width for width in (chosen["first"], chosen["second"]) if width])


def parameters_of(hidden: list[int]) -> int:
    sizes = [64, *hidden, 10]
    return sum((before + 1) * after for before, after in pairwise(sizes))


def test_all_architectures_of_a_small_space_are_scored_and_the_best_is_kept(data: Data) -> None:
    found = searched(data)
    trials = found.trials["trials"]
    assert Counter(json.dumps(trial["chosen"], sort_keys=True) for trial in trials) == {
        json.dumps({"first": first, "second": second}): 1 for first in (0, 8, 32) for second in (0, 8, 32)
    }
    assert [trial["scores"] for trial in trials] == [{"params": parameters(trial["chosen"])} for trial in trials]
    assert found.model == {"name": "mlp", "hidden": [32, 32]}
    assert found.metrics == {"trials": 9, "unscored": 0, "scores": {"params": 65 * 32 + 33 * 32 + 33 * 10}}
    assert trials[found.trials["best"]]["score"] == 100
    # (0, 8) and (8, 0) are the smallest network: of the 8 others none is below, and one equal.
    equal = [trial for trial in trials if sorted(trial["chosen"].values()) == [0, 8]]
    assert [trial["score"] for trial in equal] == [100 * 0.5 / 8] * 2


def test_what_would_be_found_stands_highest_among_those_that_were_scored_by_then(data: Data) -> None:
    numbers = random.Random(0)  # noqa: S311  (nothing secret)
    values = [None, -1e30, 1.0, 2.0, 3.0, 4.0, 1e30]
    scores = [{name: numbers.choice(values) for name in "abc"} for _ in range(60)]
    parameters = [numbers.randint(1, 3) for _ in scores]
    for done, first in enumerate(highest(scores, parameters), 1):
        ranked = [
            (-round(standing, 9), parameters[number], number)
            for number, standing in enumerate(standings(scores[:done]))
            if standing is not None
        ]
        assert first == (min(ranked)[2] if ranked else None)
    history = searched(data).history
    sizes = [parameters_of(model["hidden"]) for _trial, model in history["found"]]
    assert sizes == sorted(sizes)
    assert [trial for trial, _model in history["found"]] == sorted({trial for trial, _model in history["found"]})
    assert history["found"][-1] == [8, {"name": "mlp", "hidden": [32, 32]}]


def test_a_proxy_scores_the_network_that_stands_for_the_found_one(data: Data) -> None:
    space = SPACES.parse({"name": "darts-tiny", "search_channels": 4, "search_cells": 3, "channels": 6, "cells": 4})
    found = searched(data, space, proxy=["synflow"], count=2, images=8)
    for trial in found.trials["trials"]:
        network = registry("models").parse(space.proxy(trial["chosen"])).build(data.shape, 10)
        ratio = trial["scores"]["synflow"] / (PROXIES.parse("synflow").score(network, torch.ones(1, *data.shape), None))
        assert 0.01 < ratio < 100  # but for the weights that are drawn
    assert found.model["channels"] == 6


def test_cells_of_nas_bench_201_are_searched_and_dead_ones_left(data: Data) -> None:
    space = SPACES.parse({"name": "nas-bench-201", "search_channels": 4, "search_cells": 1, "channels": 4, "cells": 1})
    found = searched(data, space, proxy=["jacob-cov", "naswot", "synflow"], count=4, images=8)
    assert found.model["name"] == "nas-bench-201"
    dead = registry("models").parse(space.model(dict.fromkeys(space.choices(data.shape, 10), "none")))
    batch = torch.rand(8, *data.shape), torch.arange(8)
    scores = {name: PROXIES.parse(name).score(dead.build(data.shape, 10), *batch) for name in PROXIES.names()}
    assert {name for name, score in scores.items() if score is None} == {"jacob-cov", "naswot"}
    assert scores["synflow"] == 0


def test_all_can_have_one_size(data: Data) -> None:
    space = SPACES.parse({"name": "darts-tiny", "channels": 4, "cells": 3})
    found = searched(data, space, count=3, images=8, budget=12_000, proxy=["snip"])
    assert all(0.95 < trial["parameters"] / 12_000 <= 1 for trial in found.trials["trials"])
    network = registry("models").parse(found.model).build(data.shape, 10)
    assert count_parameters(network) == found.trials["trials"][found.trials["best"]]["parameters"]


def test_what_cannot_keep_a_budget_is_passed_over(data: Data) -> None:
    # 32 and 8 hidden units are scaled, as are all but the network without any, whose 650 parameters are too many.
    found = searched(data, budget=600)
    assert {"first": 0, "second": 0} not in [trial["chosen"] for trial in found.trials["trials"]]
    assert len(found.trials["trials"]) == 8


def test_a_budget_that_no_architecture_keeps_is_told_in_one_sentence(
    data: Data, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasdistill.search.strategies.random.MOST_REFUSED", 3)
    with pytest.raises(UserError, match=r"smallest network of 'darts' .* times the limit of 100$"):
        searched(data, SPACES.parse("darts-tiny"), count=1, budget=100)
    assert not recwarn.list


def test_what_no_proxy_can_score_is_not_found(data: Data) -> None:
    with pytest.raises(UserError, match="this network has none"):
        searched(data, proxy="naswot")
    black = dataclasses.replace(data, train=dataclasses.replace(data.train, images=torch.zeros_like(data.train.images)))
    with pytest.raises(UserError, match="none of 4 architectures has finite scores by naswot"):
        searched(black, build(Perceptrons, {"widths": (8, 16)}), proxy="naswot")


def test_a_killed_search_ends_as_if_it_had_never_been(data: Data, tmp_path: Path) -> None:
    strategy = build(ProxySearch, {"proxy": ["snip", "grad-norm"], "count": 6})

    def search(folder: str, killed_after: int | None = None) -> SearchResult:
        records = Records(tmp_path / folder, "test", quiet=True)
        return strategy.search(PERCEPTRONS, data, engine(), 3, Every(tmp_path / folder, killed_after), records)

    whole = search("whole")
    with pytest.raises(Killed):
        search("killed", killed_after=2)
    assert search("killed") == whole
    numbers = torch.get_rng_state()
    assert searched(data, **strategy.model_dump(include={"count"})).trials != whole.trials
    assert torch.equal(torch.get_rng_state(), numbers)


def test_a_large_space_is_sampled_without_end() -> None:
    choices = {str(label): tuple(range(10)) for label in range(30)}
    order = in_random_order(choices, torch.Generator().manual_seed(0))
    drawn = [next(order) for _ in range(200)]
    assert all(0.3 < sum(each["7"] == number for each in drawn) / 20 < 2.5 for number in range(10))


def test_the_page_shows_scores_in_place_of_epochs(data: Data) -> None:
    found = SearchTrials.model_validate(searched(data, proxy=["params", "snip"]).trials)
    shown = table(found)
    assert shown.header == (
        "trial",
        "above others by params, snip %",
        "parameters",
        "params",
        "snip",
        "first",
        "second",
    )
    assert f"{found.best}, found" in [row[0].text for row in shown.rows[:2]]
    assert [row[2].text.replace(",", "") for row in shown.rows] == [row[3].text for row in shown.rows]
    (group, *_) = TrialsOfSearch().of_seed("search", found, None)  # type: ignore[arg-type]
    assert len(group.pictures) == 2
