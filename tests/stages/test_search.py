"""The stage `search` on the embedded digits: what it writes, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from nasdistill.errors import SpecError
from nasdistill.models.base import load_network, load_spec
from nasdistill.models.cell_strings import format_cell
from nasdistill.models.genotypes import Genotype
from nasdistill.registry import build, registry
from nasdistill.report import payloads
from nasdistill.report.records import Row
from nasdistill.report.sections import cells
from nasdistill.report.sections.truth import TruthPayload
from nasdistill.search.spaces import SPACES, SearchSpace
from nasdistill.stages import STAGES, Context, Outcome
from nasdistill.storage import read_json
from nasdistill.training.engine import EngineSettings
from nasdistill.training.records import Records
from nasdistill.truth.nas_bench_201 import lookup

SMALL = {"name": "darts-tiny", "nodes": 2, "search_channels": 2, "search_cells": 3, "channels": 4, "cells": 3}


def run(folder: Path, seed: int = 0, **config: Any) -> Outcome:
    for name in ("payload", "scratch"):
        (folder / name).mkdir(parents=True)
    context = Context(
        stage="student-arch",
        folder=folder / "payload",
        scratch=folder / "scratch",
        records=Records(folder / "tensorboard", "student-arch"),
        seed=seed,
        dataset=registry("datasets").parse({"name": "digits", "limit": 200}),
        engine_settings=build(EngineSettings, {"accelerator": "cpu", "precision": "32"}),
    )
    outcome: Outcome = build(STAGES.get("search"), {"space": SMALL, **config}).run({}, context)
    return outcome


def test_the_artifact_is_the_network_that_was_found(tmp_path: Path) -> None:
    outcome = run(tmp_path, strategy="darts", epochs=1)
    payload = tmp_path / "payload"
    spec = load_spec(payload)
    assert spec.model.genotype == Genotype.model_validate(read_json(payload / "genotype.json"))
    assert (spec.model.channels, spec.model.cells, spec.model.stem_multiplier) == (4, 3, 2)
    assert (spec.shape, spec.classes) == ((1, 8, 8), 10)
    network = spec.build()
    assert outcome.metrics["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert outcome.metrics["multiply_adds"] > outcome.metrics["parameters"]
    assert not (payload / "weights.safetensors").exists()


SAME_SIZE = {**SMALL, "channels": 2, "auxiliary": True}


@pytest.mark.parametrize("strategy", [{"name": "darts"}, {"name": "successive-halving", "candidates": 2}])
def test_weights_can_come_with_the_network(strategy: dict[str, Any], tmp_path: Path) -> None:
    outcome = run(tmp_path, space=SAME_SIZE, strategy=strategy, epochs=1, keep_weights=True)
    assert outcome.network is not None
    assert outcome.network.trained
    _spec, network = load_network(tmp_path / "payload")
    for one, other in zip(network.parameters(), outcome.network.module.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"space": SMALL}, "its channels are 4 and its search_channels 2, which must be equal"),
        ({"space": {**SAME_SIZE, "cells": 4}}, "its cells are 4 and its search_cells 3"),
        ({"space": {**SAME_SIZE, "widths": [2, 4, 9]}}, "its widths must be left out"),
        (
            {"space": SAME_SIZE, "strategy": "random"},
            "'random' cannot keep weights in the space 'darts-tiny': it",
        ),
        ({"space": SAME_SIZE, "strategy": "auto"}, "by proxies, which train none; .* --strategy darts "),
        ({"space": {**SAME_SIZE, "channels": 8, "search_channels": 8}, "strategy": "pc-darts"}, "has no partial edges"),
    ],
)
def test_weights_that_do_not_fit_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        build(STAGES.get("search"), {"strategy": "darts", "keep_weights": True, **config})
    assert caught.value.path == ("keep_weights",)


def test_the_report_can_read_it(tmp_path: Path) -> None:
    run(tmp_path, strategy={"name": "darts", "epochs": 1})
    payload = tmp_path / "payload"
    genotype = payloads.read(cells.GenotypePayload, payload)
    history = payloads.read(payloads.HistoryPayload, payload)
    assert genotype is not None
    assert [len(node) for node in genotype.normal] == [2, 2]
    assert history is not None
    assert len(history.curves["alpha/normal/0/sep_conv_3x3"]) == 2
    for cell in ("normal", "reduce"):
        assert ElementTree.parse(payload / f"{cell}-cell.svg").getroot().tag.endswith("svg")  # noqa: S314  (our own file)


def test_the_networks_options_come_from_the_space(tmp_path: Path) -> None:
    space = {**SMALL, "widths": [4, 6, 10], "auxiliary": True, "drop_path": 0.2}
    run(tmp_path, space=space, strategy="random")
    model = load_spec(tmp_path / "payload").model
    assert (model.cell_widths(), model.auxiliary, model.drop_path) == ((4, 6, 10), True, 0.2)


def test_seeds_decide(tmp_path: Path) -> None:
    genotypes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, seed=seed, strategy="random")
        genotypes.append(read_json(tmp_path / name / "payload" / "genotype.json"))
    assert genotypes[0] == genotypes[1] != genotypes[2]
    assert not (tmp_path / "a" / "payload" / "history.json").exists()


@pytest.mark.parametrize(
    ("config", "path", "words"),
    [
        ({"strategy": "random", "epochs": 3}, ("epochs",), "the strategy 'random' has no epochs"),
        (
            {"strategy": {"name": "evolution", "shared_weights": {}}, "epochs": 3},
            ("epochs",),
            "'evolution' trains shared weights alone: give strategy.shared_weights.epochs",
        ),
        ({"space": "dart"}, ("space",), "did you mean 'darts'"),
        ({"strategy": {"name": "darts", "order": 3}}, ("strategy", "order"), "1 or 2"),
        ({"strategy": {"name": "darts", "epochs": 2}, "epochs": 3}, ("epochs",), "epochs is 3 here but 2 in the strat"),
        ({"epoch": 3}, ("epoch",), "did you mean 'epochs'"),
    ],
)
def test_mistakes_are_named_with_their_place(config: dict[str, Any], path: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        build(STAGES.get("search"), {"space": "darts-tiny", **config})
    assert caught.value.path == path


class Widths(SearchSpace):
    """Perceptrons of one hidden layer: a space without cells."""

    def choices(self, shape: tuple[int, int, int], classes: int) -> dict[str, tuple[Any, ...]]:
        return {"width": (4, 5, 6)}

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": "mlp", "hidden": [chosen["width"]]}


@pytest.fixture
def _widths(monkeypatch: pytest.MonkeyPatch) -> None:
    SPACES.names()
    monkeypatch.setattr(SPACES, "_components", {name: SPACES.get(name) for name in SPACES.loaded()})
    SPACES.register("widths")(Widths)


@pytest.mark.usefixtures("_widths")
def test_a_space_need_not_be_made_of_cells(tmp_path: Path) -> None:
    widths = []
    for seed in range(12):
        run(tmp_path / str(seed), seed=seed, space="widths", strategy="random")
        payload = tmp_path / str(seed) / "payload"
        widths.append(load_spec(payload).model.hidden[0])
        assert sorted(path.name for path in payload.iterdir()) == ["spec.json"]
    assert set(widths) == {4, 5, 6}


@pytest.mark.usefixtures("_widths")
def test_a_strategy_that_cannot_search_the_space_is_refused_with_those_that_can() -> None:
    with pytest.raises(
        SpecError, match=r"'darts' cannot search the space 'widths': it needs a space of cells"
    ) as caught:
        build(STAGES.get("search"), {"space": "widths", "strategy": "darts"})
    assert caught.value.path == ("strategy",)
    assert "random" in str(caught.value).partition("strategies that can: ")[2]


def test_options_with_which_a_strategy_cannot_search_the_space_are_refused_alone() -> None:
    with pytest.raises(SpecError, match=r"with these options: its 3 stages need an epoch each, and there are 2$"):
        build(STAGES.get("search"), {"space": "darts-tiny", "strategy": "p-darts", "epochs": 2})


@pytest.mark.parametrize("strategy", [{"name": "darts", "epochs": 1, "batch_size": 50}, "random"])
def test_a_cell_of_nas_bench_201_is_written_in_the_benchmarks_form_and_drawn(tmp_path: Path, strategy: Any) -> None:
    space = {"name": "nas-bench-201", "search_channels": 2, "search_cells": 1, "channels": 4, "cells": 1, "stages": 2}
    run(tmp_path, space=space, strategy=strategy)
    payload = tmp_path / "payload"
    model = load_spec(payload).model
    assert read_json(payload / "genotype.json") == {"cell": model.cell}
    assert (model.channels, model.cells, model.stages) == (4, 1, 2)
    read = payloads.read(cells.GenotypePayload, payload)
    assert read is not None
    (graph,) = read.graphs()
    kept = [name for row in model.rows() for name in row if name != "none"]
    assert [name for node in graph.edges for name, _state in node] == kept
    assert ElementTree.parse(payload / "normal-cell.svg").getroot().tag.endswith("svg")  # noqa: S314  (our own file)


def test_a_search_of_nas_bench_201_ends_with_what_its_cells_really_score(tmp_path: Path) -> None:
    space = {"name": "nas-bench-201", "search_channels": 2, "search_cells": 1, "channels": 4, "cells": 1, "stages": 2}
    outcome = run(tmp_path, space=space, strategy={"name": "darts", "epochs": 2, "batch_size": 50, "alpha_lr": 0.3})
    payload = tmp_path / "payload"
    cell = load_spec(payload).model.cell
    true = lookup(cell).standings
    assert outcome.metrics["truth"]["CIFAR-10"]["accuracy"] == true["CIFAR-10"].accuracy
    assert outcome.metrics["truth"]["ImageNet16-120"]["rank"] == true["ImageNet16-120"].rank
    assert set(outcome.metrics["rank_correlation"]) == set(true)
    history = read_json(payload / "history.json")
    found = [(epoch, model["cell"]) for epoch, model in history["found"]]
    assert [epoch for epoch, _cell in found] == [0, 1, 2]
    assert found[-1][1] == cell != found[0][1]
    regret = [[epoch, lookup(then).standings["CIFAR-100"].regret] for epoch, then in found]
    assert history["curves"]["regret/CIFAR-100"] == regret
    told = payloads.read(TruthPayload, payload)
    assert told is not None
    assert [(each.name, each.cell) for each in told.architectures] == [("student-arch", cell)]


def test_a_search_by_trials_tells_the_regret_over_its_trials(tmp_path: Path) -> None:
    space = {"name": "nas-bench-201", "search_channels": 2, "search_cells": 1, "channels": 4, "cells": 1, "stages": 2}
    run(tmp_path, space=space, strategy={"name": "proxy", "proxy": "params", "count": 12})
    trials = read_json(tmp_path / "payload" / "trials.json")["trials"]
    found = []
    for number, trial in enumerate(trials):
        larger = trial["parameters"] > max([0, *(before["parameters"] for before in trials[:number])])
        if larger or number == len(trials) - 1:
            best = max(trials[: number + 1], key=lambda each: each["parameters"])["chosen"]
            cell = format_cell([[best[f"{node}/{state}"] for state in range(node + 1)] for node in range(3)])
            found.append([number, lookup(cell).standings["CIFAR-10"].regret])
    assert len(found) > 2
    history = payloads.read(payloads.HistoryPayload, tmp_path / "payload")
    assert history is not None
    assert [[*point] for point in history.curves["regret/CIFAR-10"]] == found
    assert history.found_x == "trial"


@pytest.mark.parametrize(("metrics", "told"), [({}, True), ({"truth": {}}, False)])
def test_cells_that_no_table_knows_are_said_to_be_so(metrics: dict[str, Any], told: bool) -> None:
    payload = cells.GenotypePayload(cell="|skip_connect~0|")
    (group,) = cells.Cells().of_seed("arch", payload, Row("arch", "search", 0, metrics=metrics))
    assert ("No table of true accuracies" in group.note) == told
