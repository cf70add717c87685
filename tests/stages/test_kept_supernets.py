"""A search that goes on with the supernet of a finished one: what comes out, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from nasdistill.artifacts import SUPERNET, open_artifact
from nasdistill.errors import SpecError, UserError
from nasdistill.recipes.loading import Recipe, recipe_of_stage
from nasdistill.recipes.runner import run
from nasdistill.storage import read_json
from nasdistill.training.checkpoints import Checkpoints
from tests.search.parts import Killed

SPACE = {
    "name": "custom",
    "operations": ["none", "skip_connect", "sep_conv_3x3"],
    "nodes": 1,
    "search_channels": 2,
    "search_cells": 3,
}
CONSTANT = {"name": "darts", "batch_size": 25, "lr_end": 0.025, "on_collapse": "stop", "max_skips": 9}


def recipe(data: Any = {"name": "digits", "limit": 100}, seed: int = 3, **options: Any) -> Recipe:  # noqa: B006
    given = {"space": SPACE, "strategy": CONSTANT, "keep_supernet": True, **options}
    return recipe_of_stage("search", given, data=data, seed=seed)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a search of one epoch."""
    out = tmp_path_factory.mktemp("begun") / "run"
    run(recipe(epochs=1), out, "")
    return out


def test_going_on_ends_as_an_unbroken_search_also_after_a_kill(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as nothing follows the number of epochs: here the learning rate is constant."""
    whole, longer = tmp_path / "whole", recipe(epochs=3, resume_from=str(begun))
    run(recipe(epochs=3), whole, "")
    steps = itertools.count(1)

    def step(self: Checkpoints, number: int, capture: Any) -> None:
        self.save(number, capture())
        if next(steps) == 4:  # of two and a pause in each of two epochs
            raise Killed

    monkeypatch.setattr(Checkpoints, "step", step)
    with pytest.raises(Killed):
        run(longer, tmp_path / "longer", "")
    run(longer, tmp_path / "longer", "")
    for name in ("spec.json", "history.json", "decisions.json", SUPERNET):
        files = [(out / "stages" / "search" / name).read_bytes() for out in (whole, tmp_path / "longer")]
        assert files[0] == files[1], name
    assert len(read_json(whole / "stages" / "search" / "history.json")["found"]) == 4
    artifact = open_artifact(tmp_path / "longer" / "stages" / "search")
    assert artifact.manifest.inputs == {"resume_from": open_artifact(begun / "stages" / "search").content}


def test_without_going_on_nothing_is_kept(tmp_path: Path) -> None:
    run(recipe(epochs=1, keep_supernet=False), tmp_path / "run", "")
    assert not (tmp_path / "run" / "stages" / "search" / SUPERNET).exists()
    with pytest.raises(UserError, match="has no supernet; one that was searched with keep_supernet"):
        run(recipe(epochs=2, resume_from=str(tmp_path / "run")), tmp_path / "longer", "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 1}, "epochs done so far: 1; to go on there must be more in all, got 1"),
        ({"space": {**SPACE, "search_channels": 4}}, "its space.search_channels was 2 and is 4 here"),
        ({"strategy": {**CONSTANT, "alpha_lr": 1}}, "its strategy.alpha_lr was 0.0003 and is 1.0 here"),
        ({"strategy": "gdas"}, "its strategy.name was 'darts' and is 'gdas' here"),
        ({"seed": 4}, "its seed was 3 and is 4 here"),
        ({"data": {"name": "digits", "limit": 90}}, "its data.limit was 100 and is 90 here"),
    ],
)
def test_what_began_otherwise_does_not_go_on(changes: dict[str, Any], words: str, begun: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        run(recipe(**{"epochs": 2, "resume_from": str(begun), **changes}), tmp_path / "run", "")


def test_a_search_that_stopped_does_not_go_on(tmp_path: Path) -> None:
    collapsing = {**CONSTANT, "max_skips": 0}
    space = {**SPACE, "operations": ["none", "skip_connect"]}
    run(recipe(epochs=2, space=space, strategy=collapsing), tmp_path / "run", "")
    longer = recipe(epochs=3, space=space, strategy=collapsing, resume_from=str(tmp_path / "run"))
    with pytest.raises(UserError, match="it stopped after 1 of its 2 epochs by its own rule"):
        run(longer, tmp_path / "longer", "")


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"strategy": "random"}, ("keep_supernet",), "the strategy 'random' has no supernet.* --strategy darts"),
        ({"resume_from": "earlier"}, ("epochs",), "needs to know until how many epochs are done"),
    ],
)
def test_what_cannot_go_on_is_refused_at_once(options: dict[str, Any], path: tuple[str, ...], words: str) -> None:
    from nasdistill.registry import build
    from nasdistill.stages import STAGES

    with pytest.raises(SpecError, match=words) as caught:
        build(STAGES.get("search"), {"space": SPACE, "strategy": "darts", "keep_supernet": True, **options})
    assert caught.value.path == path
