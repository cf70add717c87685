"""Spaces of inverted residual blocks: what they hold, what they refuse, and who can search them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.preparation import load
from nasdistill.errors import SpecError
from nasdistill.registry import registry
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from tests.models.test_mobilenet import MOBILENET_V2
from tests.search.parts import engine


def test_mobilenet_v2_lies_in_its_space() -> None:
    space, published = SPACES.parse("mobilenet"), registry("models").parse(MOBILENET_V2)
    choices = space.choices((3, 224, 224), 1000)
    assert math.prod(map(len, choices.values())) == 3 * 54**5 * 36
    chosen = {}
    for label, alternatives in choices.items():
        number, key = label.split("/")
        chosen[label] = getattr(published.stages[int(number)], key)
        assert chosen[label] in alternatives
    assert registry("models").parse(space.model(chosen)) == published


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "random"},
        {"name": "proxy", "count": 2, "images": 8},
        {"name": "successive-halving", "candidates": 2, "batch_size": 16},
        {"name": "nni:tpe", "trials": 2, "drawn": 1, "epochs": 1, "batch_size": 16},
    ],
    ids=lambda strategy: strategy["name"],
)
def test_strategies_that_try_architectures_search_it(strategy: dict[str, Any]) -> None:
    if strategy["name"].startswith("nni:"):
        pytest.importorskip("nni")
    space = SPACES.parse("mobilenet-tiny")
    data = load(registry("datasets").parse("digits"), 0)
    data = dataclasses.replace(data, train=data.train.subset(torch.arange(40)))
    model = STRATEGIES.parse(strategy).search(space, data, engine(), 3).model
    choices = space.choices(data.shape, 10)
    assert all(model["stages"][int(label[0])][label[2:]] in alternatives for label, alternatives in choices.items())
    assert registry("models").parse(model).build(data.shape, 10)(torch.randn(2, *data.shape)).shape == (2, 10)
    assert STRATEGIES.parse("darts").reason_to_refuse(space) == "it needs a space of cells"


def test_a_file_of_ones_own_is_a_space_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("family: mobilenet\nstem: 8\nstages:\n  - {width: [4, 8], kernel: 5}\n")
    space = SPACES.parse(str(path))
    assert space.choices((1, 8, 8), 10) == {"0/width": (4, 8)}
    assert SPACES.parse(space.spec()) == space
    stage = {"kernel": 5, "expansion": 6, "width": 8, "depth": 1, "stride": 1}
    assert space.model({"0/width": 8})["stages"] == [stage]
    for stages, place, words in (
        ("[{width: [4, 4]}]", ("stages", 0, "width", 1), "4 is listed twice"),
        ("[{width: []}]", ("stages", 0, "width"), "at least 1"),
        ("[{width: 4, kernel: [3, 4]}]", ("stages", 0, "kernel", 1), "an odd side, not 4"),
        ("[]", ("stages",), "at least 1"),
    ):
        path.write_text(f"family: mobilenet\nstages: {stages}\n")
        with pytest.raises(SpecError, match=words) as caught:
            SPACES.parse(str(path))
        assert caught.value.path == place
