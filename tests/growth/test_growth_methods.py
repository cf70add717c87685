"""Every growth method reaches the same size, and only what importance says decides where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasdistill.errors import Interrupted, SpecError, UserError
from nasdistill.growth.importance import unit_importance
from nasdistill.growth.methods import GROWTH_METHODS, Grown
from nasdistill.growth.methods.fisher_groups import halved
from nasdistill.growth.plan import size
from nasdistill.growth.stepwise import GrowthRule
from nasdistill.growth.student import Student
from nasdistill.growth.widening import widen
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.models.with_groups import WithGroups, depthwise_layers
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.records import Records


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineSettings(accelerator="cpu", precision="32"))


class ThreeBatches:
    """24 images of two classes that differ in brightness; the same whenever they are asked for."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            labels = torch.arange(8) % 2
            yield torch.randn(8, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1), labels


def student(**options: Any) -> tuple[NetworkSpec, nn.Module]:
    torch.manual_seed(0)
    model = MODELS.parse({"name": "darts", "genotype": "DARTS_V2", "channels": 6, "cells": 4, **options})
    spec = NetworkSpec(model=model, shape=(1, 8, 8), classes=2)
    return spec, spec.build()


class Noted(Records):
    """Notes at which steps scalars are told."""

    def __init__(self) -> None:
        super().__init__(Path(), "teacher")
        self.at: list[int] = []

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.at.append(step)


def grow(
    method: Any,
    engine: Engine,
    folder: Path,
    *,
    seed: int = 0,
    checkpoints: Checkpoints | None = None,
    records: Records | None = None,
) -> Grown:
    spec, network = student()
    checkpoints = checkpoints or Checkpoints(folder)
    return GROWTH_METHODS.parse(method).grow(
        Student(spec, network, ThreeBatches(), engine, seed, checkpoints, records or Noted())
    )


@pytest.mark.parametrize("measure", ["params", "flops"])
@pytest.mark.parametrize("name", ["uniform", "depth", "compound", "random", "fisher", "l1"])
def test_every_method_reaches_the_size(name: str, measure: Any, engine: Engine, tmp_path: Path) -> None:
    step = {"step": 0.5} if name in ("random", "fisher", "l1") else {}
    grown = grow({"name": name, "measure": measure, **step}, engine, tmp_path)
    rebuilt = NetworkSpec.model_validate_json(grown.spec.model_dump_json())
    ratio = size(rebuilt, measure) / size(student()[0], measure)
    assert ratio == pytest.approx(2.0, rel=0.02)
    assert grown.steps[-1]["ratio"] == pytest.approx(ratio, abs=1e-4)
    assert grown.steps[-1]["widths"] == list(rebuilt.model.cell_widths())
    assert grown.steps[-1]["parameters"] == sum(weight.numel() for weight in rebuilt.build().parameters())


def test_depth_takes_cells_first_and_widths_for_the_rest(engine: Engine, tmp_path: Path) -> None:
    grown = grow("depth", engine, tmp_path)
    first, last = grown.steps[0], grown.steps[-1]
    assert first["depth"] > 4
    assert set(first["widths"]) == {6, 12, 24}
    assert last["depth"] == first["depth"]
    assert abs(last["ratio"] / 2 - 1) <= 0.02 < abs(first["ratio"] / 2 - 1)


def test_random_is_decided_by_its_seed(engine: Engine, tmp_path: Path) -> None:
    plans = [grow("random", engine, tmp_path / str(n), seed=seed) for n, seed in enumerate((0, 0, 1))]
    assert plans[0] == plans[1]
    assert plans[0].spec != plans[2].spec


@pytest.mark.parametrize("per", ["unit", "channel", "parameter", "multiply-add", "top-channel"])
def test_fisher_takes_the_cell_of_the_highest_score_each_time(per: str, engine: Engine, tmp_path: Path) -> None:
    grown = grow({"name": "fisher", "per": per, "ratio": 1.2}, engine, tmp_path)
    for step in grown.steps[:-1]:
        assert step["unit"] == f"cells.{max(range(4), key=step['importance'].__getitem__)}"
    assert grown.steps[0]["importance"] == grown.importance["before"]
    assert len(grown.importance["after"]) == 4
    assert grown.importance["after"] != grown.importance["before"]


def test_fisher_scores_are_the_sum_the_mean_or_the_mean_by_cost(engine: Engine, tmp_path: Path) -> None:
    before = {
        per: torch.tensor(
            grow({"name": "fisher", "per": per, "ratio": 1.1}, engine, tmp_path / per).importance["before"]
        )
        for per in ("unit", "channel", "parameter")
    }
    channels = torch.tensor([4 * 6, 4 * 12, 4 * 24, 4 * 24])
    torch.testing.assert_close(before["unit"] / channels, before["channel"])
    costs = before["channel"] / before["parameter"]
    torch.testing.assert_close(costs, costs.round(), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("per", "scores"),
    [
        ("unit", {"cells.0": 9.0, "cells.1": 8.0, "cells.2": 6.0}),
        ("channel", {"cells.0": 1.5, "cells.1": 4.0, "cells.2": 2.0}),
        ("top-channel", {"cells.0": 2.0, "cells.1": 4.0, "cells.2": 5.0}),
    ],
)
def test_each_form_of_per_may_prefer_another_cell(
    per: str, scores: dict[str, float], monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    """Many channels, few of them, and one: sum, mean and maximum by hand."""
    channels = {"cells.0": [1.0, 1, 1, 2, 2, 2], "cells.1": [4.0, 4], "cells.2": [0.5, 5, 0.5]}
    given = {unit: torch.tensor(values) for unit, values in channels.items()}
    monkeypatch.setattr("nasdistill.growth.importance.unit_importance", lambda *_: given)
    method = GROWTH_METHODS.parse({"name": "fisher", "per": per})
    assert isinstance(method, GrowthRule)
    assert method.scores(Student(*student(), ThreeBatches(), engine)) == scores


def test_l1_takes_the_cell_of_the_largest_filters(engine: Engine, tmp_path: Path) -> None:
    spec, network = student()
    for cell, scale in enumerate((0.1, 3.0, 0.2, 0.1)):
        for layer in network.cells[cell].modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.constant_(layer.weight, scale)
    method = GROWTH_METHODS.parse({"name": "l1", "ratio": 1.2})
    assert {step["unit"] for step in method.grow(Student(spec, network, ThreeBatches(), engine)).steps} == {"cells.1"}


def test_copies_share_the_score_of_their_source(engine: Engine) -> None:
    """Each of m copies has 1/m of the gradient, so together they have 1/m of the score."""
    spec, network = student()
    network = network.double()
    batches = [(images.double(), labels) for images, labels in ThreeBatches()]
    grown_spec, grown = widen(spec, network, "cells.1", 36)  # all of 12 channels three times
    before = unit_importance(spec, network, "output", batches, engine)
    after = unit_importance(grown_spec, grown, "output", batches, engine)
    torch.testing.assert_close(after["cells.1"].sum(), before["cells.1"].sum() / 3)
    torch.testing.assert_close(after["cells.2"], before["cells.2"])


def test_fisher_scores_again_only_as_often_as_asked(engine: Engine, tmp_path: Path) -> None:
    steps = grow({"name": "fisher", "rescore": 3, "ratio": 1.5}, engine, tmp_path).steps
    changed = [
        number for number in range(1, len(steps)) if steps[number]["importance"] != steps[number - 1]["importance"]
    ]
    assert len(steps) > 4
    assert changed == list(range(3, len(steps), 3))


def test_no_cell_grows_past_the_widest(engine: Engine, tmp_path: Path) -> None:
    grown = grow({"name": "fisher", "widest": 1.5, "step": 1.0}, engine, tmp_path)
    assert all(width <= 1.5 * old for width, old in zip(grown.spec.model.cell_widths(), (6, 12, 24, 24), strict=True))
    with pytest.raises(UserError, match=r"widening units up to 1\.2 times cannot reach 2 times"):
        grow({"name": "random", "widest": 1.2, "step": 1.0}, engine, tmp_path / "again")


def test_fisher_leaves_the_student_as_it_was(engine: Engine) -> None:
    spec, network = student()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    method = GROWTH_METHODS.parse({"name": "fisher", "ratio": 1.1})
    method.grow(Student(spec, network, ThreeBatches(), engine))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class StoppedAfter(Checkpoints):
    """As if Ctrl-C were pressed during a step."""

    def __init__(self, folder: Path, last: int) -> None:
        super().__init__(folder)
        self.last = last

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        if number == self.last:
            self.save(number, capture())
            raise Interrupted(2)


@pytest.mark.parametrize("last", [1, 4])
def test_fisher_goes_on_where_it_was_stopped(last: int, engine: Engine, tmp_path: Path) -> None:
    method = {"name": "fisher", "rescore": 3, "ratio": 1.5}
    unbroken = grow(method, engine, tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        grow(method, engine, tmp_path, checkpoints=StoppedAfter(tmp_path, last))
    records = Noted()
    assert grow(method, engine, tmp_path, records=records) == unbroken
    assert records.at[0] == 3 * -(-last // 3)  # what was scored before the stop is not scored again


def test_fisher_groups_widens_nothing_and_halves_groups_where_the_score_is_highest(
    engine: Engine, tmp_path: Path
) -> None:
    spec, _network = student()
    for measure in ("params", "flops"):
        grown = grow({"name": "fisher-groups", "measure": measure}, engine, tmp_path)
        rebuilt = NetworkSpec.model_validate_json(grown.spec.model_dump_json())
        network = rebuilt.build()
        counted = {"params": count_parameters(network), "flops": multiply_adds(network, (1, 8, 8))}
        assert counted[measure] / size(spec, measure) == pytest.approx(2.0, rel=0.02)
        assert grown.steps[0]["unit"] == f"cells.{max((0, 3), key=grown.importance['before'].__getitem__)}"
        plain = dict(spec.build().named_modules())
        for path, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                old = plain[path]
                assert module.out_channels == old.out_channels
                assert module.groups == rebuilt.model.groups.get(path, old.groups) <= old.groups
    assert {step["unit"] for step in grown.steps} <= {"cells.0", "cells.3"}  # cells 1 and 2 pool
    network(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(
        each.grad.any() for name, each in network.named_parameters() if name.rpartition(".")[0] in rebuilt.model.groups
    )


def test_groups_that_are_halved_stay_of_equal_size() -> None:
    assert [halved(16, 16), halved(16, 2), halved(6, 6), halved(6, 3), halved(23, 23), halved(15, 5)] == [
        8,
        1,
        3,
        1,
        1,
        1,
    ]


def test_fisher_groups_tells_what_it_cannot_do() -> None:
    method = GROWTH_METHODS.parse("fisher-groups")
    plain = NetworkSpec(model=MODELS.parse("wrn-10-1"), shape=(1, 8, 8), classes=2)
    assert method.reason_to_refuse(plain) == "the model 'wrn' has no depthwise layers, whose groups could become fewer"
    assert method.reason_to_refuse(student()[0]) is None
    most = GROWTH_METHODS.parse({"name": "fisher-groups", "ratio": 50.0}).reason_to_refuse(student()[0])
    assert most is not None
    assert most.startswith("one group in each depthwise layer cannot reach 50 times the student's params")
    assert method.reason_not_to_carry(plain) == "'fisher-groups' draws the filters of grouped layers anew"


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ({"cells.0.preprocess": 1}, "unknown depthwise convolution 'cells.0.preprocess'"),
        ({"PATH": 4}, "the 6 channels of .* cannot be in 4 groups of equal size"),
    ],
)
def test_wrong_groups_are_told(groups: dict[str, int], sentence: str) -> None:
    spec, network = student()
    first = next(path for path, _layer in depthwise_layers(network))
    with pytest.raises(UserError, match=sentence):
        WithGroups.of(spec.model, {path.replace("PATH", first): n for path, n in groups.items()}).build((1, 8, 8), 2)


@pytest.mark.parametrize("name", ["uniform", "depth", "compound", "random", "fisher"])
def test_a_model_that_cannot_grow_is_told(name: str, engine: Engine) -> None:
    spec = NetworkSpec(model=MODELS.parse("fitnet-mnist"), shape=(1, 28, 28), classes=2)
    method = GROWTH_METHODS.parse(name)
    with pytest.raises(UserError, match="the model 'maxout' cannot grow") as caught:
        method.grow(Student(spec, spec.build(), ThreeBatches(), engine))
    assert method.reason_to_refuse(spec) == str(caught.value)
    assert method.reason_to_refuse(student()[0]) is None


def test_channels_that_zeros_tie_together_are_refused_before_anything_runs() -> None:
    padded, projected = (
        NetworkSpec(model=MODELS.parse({"name": "resnet-8", "shortcut": shortcut}), shape=(1, 28, 28), classes=2)
        for shortcut in ("pad", "project")
    )
    fisher, uniform = (GROWTH_METHODS.parse(name) for name in ("fisher", "uniform"))
    assert "`shortcut: project`" in str(fisher.reason_to_refuse(padded))
    assert uniform.reason_to_refuse(padded) is None, "without weights nothing is copied"
    assert "`shortcut: project`" in str(uniform.reason_not_to_carry(padded))
    assert fisher.reason_to_refuse(projected) is uniform.reason_not_to_carry(projected) is None


@pytest.mark.parametrize("name", ["random", "fisher"])
def test_a_ratio_out_of_reach_is_refused_before_anything_runs(name: str) -> None:
    reason = GROWTH_METHODS.parse({"name": name, "widest": 1.2}).reason_to_refuse(student()[0])
    assert reason is not None
    assert reason.startswith("widening units up to 1.2 times cannot reach 2 times the student's params")


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ([1.0, 2.0], "returned list, not a mapping"),
        ({f"cells.{cell}": 1.0 for cell in range(3)}, "gave 3 scores for 4 units: that of 'cells.3' is missing"),
        ({"cell.1": 1.0}, "scored an unknown unit 'cell.1'; did you mean 'cells.1'"),
        (
            {f"cells.{cell}": 1 / (cell or float("inf")) - cell * float("inf") for cell in range(4)},
            "'cells.0' with nan",
        ),
        ({f"cells.{cell}": torch.ones(2) for cell in range(4)}, "which is not a finite number"),
    ],
)
def test_what_a_rule_gets_wrong_is_told_with_its_file(scores: Any, sentence: str, engine: Engine) -> None:
    class Wrong(GrowthRule):
        def scores(self, student: Student) -> Any:
            return scores

    with pytest.raises(UserError, match=f"the growth rule Wrong .*{re.escape(sentence)}.*test_growth_methods.py, line"):
        Wrong().grow(Student(*student(), ThreeBatches(), engine))


@pytest.mark.parametrize("options", [{"ratio": 1.0}, {"measure": "layers"}, {"read": "input"}, {"step": 0}])
def test_wrong_options_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        GROWTH_METHODS.parse({"name": "fisher", **options})
