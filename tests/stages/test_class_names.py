"""The classes of trained networks and of the data: the same names are mapped to the last bit, other names refused."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data
from nasdistill.errors import SpecError, UserError
from nasdistill.models.adapted import with_outputs
from nasdistill.models.base import Network, NetworkSpec, load_network, load_spec
from nasdistill.recipes import runner
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES
from nasdistill.stages.base import Place, path_of
from nasdistill.stages.class_names import names_in_words, places_of
from nasdistill.stages.networks import network_for_data
from tests.recipes.test_foresight import recipe_of, stage, taught
from tests.stages.parts import context_in, equal, few_digits, network_artifact, turn_head, weights

LETTERS = tuple("abcdefghij")
DARTS = {"name": "darts-v2", "channels": 4, "cells": 3, "auxiliary": True}


@pytest.mark.parametrize(
    ("wanted", "known", "places"),
    [
        (("ant", "bee", "cat"), ("cat", "ant", "bee"), (1, 2, 0)),
        (("bee", "cat"), ("ant", "bee", "cat"), (1, 2)),
        (("bee", "cat", "dog"), ("ant", "bee", "cat"), None),
        (("Ant", "bee"), ("BEE", "ant"), (1, 0)),
        (("a", "A"), ("A", "a"), (1, 0)),
        (("a", "b"), ("A", "a"), None),
        (("a", "b"), ("A", "B", "b"), None),
        (("cafe\N{COMBINING ACUTE ACCENT}", "x"), ("x", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"), (1, 0)),
        (("0", "1"), ("a", "b"), None),
        (("a", "a"), ("a", "b"), None),
    ],
)
def test_names_are_found_by_their_letters(
    wanted: tuple[str, ...], known: tuple[str, ...], places: tuple[int, ...] | None
) -> None:
    assert places_of(wanted, known) == places


def test_of_many_names_a_few_are_listed() -> None:
    assert names_in_words(("a", "b")) == "'a', 'b'"
    assert names_in_words(LETTERS) == "'a', 'b', 'c', 'd', 'e', ... (of 10)"
    assert names_in_words(("a",), 100) == "'a' (of 100)"


@pytest.mark.parametrize("model", ["wrn-10-1", "mlp-8", "densenet-10-4", {"name": "wrn", "binary": "xnor"}, DARTS])
def test_a_network_in_another_order_is_the_one_turned_by_hand(model: Any, tmp_path: Path, data: Data) -> None:
    """To the last bit, auxiliary heads as well, and the one given in memory stays as it is."""
    model = {**model, "depth": 10, "width": 1} if isinstance(model, dict) and model["name"] == "wrn" else model
    given = network_artifact(tmp_path / "given", data, model, labels=data.classes[::-1])
    spec, network = network_for_data("network", "given", {"network": given}, context_in(tmp_path, data), "trained")
    before, after = weights(given.folder), network.state_dict()
    heads = {name for name in before if name.startswith(("classifier.", "auxiliary.9."))}
    assert len(heads) >= 2
    for name, value in before.items():
        assert torch.equal(after[name], value.flip(0) if name in heads else value), name
    assert spec.labels == data.classes
    assert not network.training

    memory = Network(load_spec(given.folder), load_network(given.folder)[1])
    context = dataclasses.replace(context_in(tmp_path, data), networks={"network": memory})
    _, same = network_for_data("network", "given", {}, context, "trained")
    assert equal(same.state_dict(), after)
    assert equal(memory.module.state_dict(), before)


def test_an_ensemble_is_mapped_in_each_of_its_members(data: Data) -> None:
    model = {"name": "ensemble", "members": [{"model": "mlp-8"}, {"model": "mlp-4", "weight": 2}]}
    spec = NetworkSpec(model=registry("models").parse(model), shape=data.shape, classes=10, labels=LETTERS)
    order = [3, 1, 0, 9, 2, 8, 4, 7, 5, 6]
    network = spec.build().eval()
    mapped, turned = with_outputs(spec, network, order)
    images = torch.rand(5, *data.shape)
    torch.testing.assert_close(turned(images), network(images)[:, order])
    assert mapped.labels == tuple("dbajciehfg")


def test_new_weights_know_no_names(tmp_path: Path, data: Data) -> None:
    untrained = network_artifact(tmp_path / "untrained", data, "mlp-8", trained=False, labels=LETTERS)
    trained = network_artifact(tmp_path / "trained", data, "mlp-8", labels=LETTERS)
    context = context_in(tmp_path, data)
    network_for_data("network", "given", {"network": untrained}, context)
    network_for_data("network", "given", {"network": trained}, context, "fresh")


OUTPUTS = {"objectives": ["divergence"]}
MIDDLE = {"pair": ["hidden.0", "hidden.0"]}
STAGES_THAT_READ: list[tuple[str, Place, dict[str, Any]]] = [
    ("train", "model", {"model": "given"}),
    ("distill", "teacher", {"student": "mlp-8", "teacher": "given"}),
    ("distill", ("teacher", 1), {"student": "mlp-8", "teacher": ["good", "given"]}),
    ("distill", "student", {"student": "given", "teacher": "good"}),
    ("hints", "teacher", {"student": "mlp-8-8", "teacher": "given", **MIDDLE}),
    ("hints", "student", {"student": "given", "teacher": "good", **MIDDLE}),
    ("grow-teacher", "student", {"student": "given"}),
    ("evaluate", "network", {"network": "given"}),
    ("ensemble", ("networks", 1), {"networks": ["good", "given"]}),
    ("ensemble", ("beside", 0), {"networks": ["good"], "beside": ["given"]}),
    ("compare", "teacher", {"student": "good", "teacher": "given"}),
    ("zero-shot", "teacher", {"student": "mlp-8", "teacher": "given", **OUTPUTS}),
    ("zero-shot", "student", {"student": "given", "teacher": "good", **OUTPUTS}),
]


@pytest.mark.parametrize(("uses", "field", "options"), STAGES_THAT_READ)
def test_every_stage_refuses_networks_of_other_classes_in_the_plan_too(
    uses: str, field: Place, options: dict[str, Any], tmp_path: Path, data: Data
) -> None:
    model: Any = DARTS if uses == "grow-teacher" else "mlp-8"
    artifacts = {
        "good": network_artifact(tmp_path / "good", data, "mlp-4", labels=data.classes),
        "given": network_artifact(tmp_path / "given", data, model, labels=(*data.classes[:9], "ten")),
    }
    made = build(STAGES.get(uses), options)
    places: dict[Place, str] = {}
    for name, value in options.items():
        places |= {name: value} if isinstance(value, str) else {(name, n): each for n, each in enumerate(value)}
    inputs = {place: artifacts[value] for place, value in places.items() if value in artifacts}
    context = context_in(tmp_path, data)
    context.shared.images = context.dataset.read()
    specs = {place: load_spec(artifact.folder) for place, artifact in inputs.items()}
    sentence = r"'given' was trained on the classes 'ten' .of 10., those here are '9' .of 10.; `classes: by-position`"
    for refused in (lambda: made.foresee(specs, context), lambda: made.run(inputs, context)):
        with pytest.raises(SpecError, match=sentence) as caught:
            refused()
        assert caught.value.path == path_of(field)
    by_position = made.model_copy(update={"classes": "by-position"})
    by_position.foresee(specs, context)
    assert (
        f"the classes of the {'.'.join(map(str, path_of(field)))} 'given' are taken by position" in context.caveats[-1]
    )


def test_a_student_of_a_teacher_in_another_order_is_that_of_one_turned_by_hand(tmp_path: Path, data: Data) -> None:
    """Of two teachers and with cached outputs; what was cached for other classes is not taken."""
    good = network_artifact(tmp_path / "good", data, "mlp-4", labels=data.classes)
    turned = network_artifact(tmp_path / "turned", data, "mlp-8", labels=data.classes[::-1])
    by_hand = network_artifact(tmp_path / "by-hand", data, "mlp-8", labels=data.classes)
    turn_head(by_hand)

    def student(name: str, second: Artifact, **options: Any) -> dict[str, torch.Tensor]:
        options = {"student": "mlp-8", "teacher": ["good", "other"], "epochs": 1, "show": [], **options}
        context = context_in(tmp_path / name, data, cache=tmp_path / "cache")
        made = build(STAGES.get("distill"), {**options, "cache_outputs": True})
        made.run({("teacher", 0): good, ("teacher", 1): second}, context)
        return weights(context.folder)

    found = student("mapped", turned)
    assert equal(found, student("hand", by_hand))
    assert not equal(found, student("position", turned, classes="by-position"))
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_plan_tells_what_is_mapped_and_refuses_before_anything_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = network_artifact(tmp_path / "given", few_digits(), "mlp-4", labels=tuple("9876543210")).folder
    other = network_artifact(tmp_path / "other", few_digits(), "mlp-4", labels=LETTERS).folder
    first = stage("first", "train", model="mlp-4")
    with caplog.at_level(logging.WARNING):
        runner.plan(recipe_of(first, taught("kd", student="first", teacher=str(given))), tmp_path / "out")
    assert [record.getMessage() for record in caplog.records] == [
        f"student: the outputs of the teacher {str(given)!r}, for '9', '8', '7', '6', '5', ... (of 10), "
        "are mapped to '0', '1', '2', '3', '4', ... (of 10)"
    ]
    with pytest.raises(UserError, match=r"^wrong.yaml:5: stages.student.teacher: .* 'a', .* those here are '0', "):
        runner.plan(recipe_of(first, taught("kd", student="first", teacher=str(other))), tmp_path / "out")
    runner.plan(recipe_of(taught("kd", teacher=str(other), classes="by-position")), tmp_path / "out")
    again = stage("again", "born-again", teacher=str(other), model="mlp-4", generations=1, epochs=1)
    with pytest.raises(UserError, match=r"stages.again.teacher: .* was trained on the classes 'a'"):
        runner.plan(recipe_of(again), tmp_path / "out")
    by_position = stage("again", "born-again", teacher=str(other), model="mlp-4", epochs=1, classes="by-position")
    runner.plan(recipe_of(by_position), tmp_path / "out")


def test_adapt_picks_the_datas_classes_and_others_say_so(tmp_path: Path, data: Data) -> None:
    known = tuple("9876543210xyz")
    given = network_artifact(tmp_path / "given", data, "mlp-8", classes=13, labels=known)
    context = context_in(tmp_path, data)
    with pytest.raises(SpecError, match="all of these are among its own, and the stage `adapt` picks them"):
        network_for_data("teacher", "given", {"teacher": given}, context, "trained")
    made = build(STAGES.get("adapt"), {"network": "given"})
    foreseen = made.foresee({"network": load_spec(given.folder)}, context)
    outcome = made.run({"network": given}, context)
    before, after = weights(given.folder), weights(context.folder)
    assert torch.equal(after["classifier.weight"], before["classifier.weight"][:10].flip(0))
    assert (outcome.metrics["drawn"], load_spec(context.folder)) == ([], foreseen)
