"""The stage `score`: scores by hand, order, what has none, what is refused; and its table on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data, Words
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import load_network, load_spec
from nasdistill.registry import build, registry
from nasdistill.report import payloads
from nasdistill.report.sections.scores import ScoresPayload, table
from nasdistill.search.proxies import PROXIES
from nasdistill.search.untrained import standings
from nasdistill.stages import STAGES
from nasdistill.stages.base import Place
from nasdistill.words import NONE
from tests.stages.parts import SEED, context_in, network_artifact

MODELS = ["mlp-8", "mlp-32-32", {"name": "mlp", "hidden": [16]}]


def scored(
    folder: Path, data: Data, inputs: Mapping[Place, Artifact] = MappingProxyType({}), **options: Any
) -> ScoresPayload:
    context = context_in(folder, data)
    stage = build(STAGES.get("score"), {"models": MODELS, **options})
    stage.foresee({place: load_spec(artifact.folder) for place, artifact in inputs.items()}, context)
    stage.run(inputs, context)
    found = payloads.read(ScoresPayload, context.folder)
    assert found is not None
    return found


def test_models_are_scored_with_the_weights_that_training_begins_with(tmp_path: Path, data: Data) -> None:
    found = scored(tmp_path, data, proxy=["snip", {"name": "zico", "parts": 4}], images=96)
    assert [each.model for each in found.networks] == MODELS
    assert [each.parameters for each in found.networks] == [
        65 * 8 + 9 * 10,
        65 * 32 + 33 * 32 + 33 * 10,
        65 * 16 + 17 * 10,
    ]
    assert [each.multiply_adds for each in found.networks] == [74 * 8, 64 * 32 + 32 * 32 + 32 * 10, 74 * 16]
    pixels = (data.train.images / 255 - data.normalisation.mean[0]) / data.normalisation.std[0]
    for each in found.networks:
        torch.manual_seed(SEED)
        network = registry("models").parse(each.model).build(data.shape, 10)
        # All 96 images are in the batch, in an order that only rounding sees.
        assert each.scores["snip"] == pytest.approx(PROXIES.parse("snip").score(network, pixels, data.train.labels))
        assert each.seconds.keys() == {"snip", "zico"}


def test_new_weights_are_scored_even_of_a_trained_network(tmp_path: Path, data: Data) -> None:
    trained = network_artifact(tmp_path / "given", data, "mlp-8")
    found = scored(tmp_path, data, {("models", 0): trained}, models=["given"], proxy="grad-norm", images=96)
    torch.manual_seed(SEED)
    fresh = registry("models").parse("mlp-8").build(data.shape, 10)
    pixels = (data.train.images / 255 - data.normalisation.mean[0]) / data.normalisation.std[0]

    def score(network: torch.nn.Module) -> float | None:
        found: float | None = PROXIES.parse("grad-norm").score(network, pixels, data.train.labels)
        return found

    assert found.networks[0].scores["grad-norm"] == pytest.approx(score(fresh))
    assert score(fresh) != pytest.approx(score(load_network(trained.folder)[1]))


def test_the_best_comes_first_and_what_has_no_score_last(tmp_path: Path, data: Data) -> None:
    # Two images of 8 ReLUs are alike in two rows of the kernel where 64 images are: its determinant is 0.
    found = scored(tmp_path, data, proxy=["params", "naswot"], images=64)
    assert found.networks[0].scores["naswot"] is None
    assert [each.standing for each in found.networks] == [None, 100, 0]
    shown = table(found)
    assert shown.header == ("network", "above others, %", "params", "naswot", "parameters", "multiply-adds")
    assert [row[0].text for row in shown.rows] == ["mlp-32-32", "{name: mlp, hidden: [16]}", "mlp-8"]
    assert shown.rows[-1][1].text == shown.rows[-1][3].text == NONE


def test_of_several_proxies_each_has_an_equal_say() -> None:
    a, b, c, d = ({"first": first, "second": second} for first, second in ((1, 5e9), (2, 6e9), (3, 6e9), (None, 9e9)))
    # By the first 0, 1, 2 of two others are below; by the second 0, 1.5, 1.5.
    assert standings([a, b, c, d]) == pytest.approx([0, 100 * (0.5 + 0.75) / 2, 100 * (1 + 0.75) / 2, None])
    assert standings([d, a]) == [None, 100]
    assert standings([]) == []


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"models": ["mlp-8", {"name": "mlp", "hidden": [8, 8], "binary": "xnor"}]}, ("models", 1), "is binary"),
        ({"models": ["mlp-8", "no-model"]}, ("models", 1), "no-model"),
        ({"proxy": ["snip", "naswott"]}, ("proxy", 1), "did you mean 'naswot'"),
        ({"proxy": ["snip", "fisher", "snip"]}, ("proxy", 2), "'snip' is listed twice"),
        ({"proxy": []}, ("proxy",), "at least 1 must be given"),
        ({"models": [{"name": "mlp", "hidden": []}], "proxy": "naswot"}, ("models", 0), "this network has none"),
    ],
)
def test_what_cannot_be_scored_is_refused_at_its_place(
    options: dict[str, Any], path: tuple[str | int, ...], problem: str, tmp_path: Path, data: Data
) -> None:
    with pytest.raises(SpecError, match=problem) as caught:
        scored(tmp_path, data, **options)
    assert caught.value.path[:2] == path


def test_texts_are_refused(tmp_path: Path, data: Data) -> None:
    with pytest.raises(UserError, match="the data set holds texts"):
        scored(tmp_path, replace(data, words=Words(("a",), 1)))
