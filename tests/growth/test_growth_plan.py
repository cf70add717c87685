"""Sizes, targets and steps of growth, against published counts and counts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from nasdistill.errors import UserError
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.plan import (
    Target,
    channel_costs,
    fitted,
    growable,
    next_step,
    reason_not_to_grow,
    size,
    widths_of,
    with_model,
    with_width,
)
from nasdistill.growth.student import Student
from nasdistill.models import onnx_costs
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.darts import Darts
from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.models.operations import OPERATIONS
from nasdistill.training.engine import Engine, EngineSettings


def spec_of(model: str | dict[str, Any], shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> NetworkSpec:
    return NetworkSpec(model=MODELS.parse(model), shape=shape, classes=classes)


def tiny(**options: Any) -> NetworkSpec:
    return spec_of({"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 4, **options}, (1, 8, 8))


def scaled(spec: NetworkSpec, factor: float) -> NetworkSpec:
    return with_model(spec, spec.model.scaled(factor))


def deepened(spec: NetworkSpec, depth: int) -> NetworkSpec:
    return with_model(spec, spec.model.with_blocks(depth))


def widest(*widths: int) -> dict[str, int]:
    return {f"cells.{cell}": width for cell, width in enumerate(widths)}


def test_sizes_are_the_published_ones_and_the_auxiliary_head_is_none_of_them() -> None:
    assert size(spec_of("darts-v2-16-10"), "params") == 338_794
    assert size(spec_of({"name": "darts", "genotype": "DARTS_V2", "auxiliary": True}), "params") == 3_349_342


EVERY_OPERATION = tuple(((name, 0), (name, 1), (name, node + 1)) for node, name in enumerate(OPERATIONS.names()))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 8, 8), {"widths": (3, 5, 6, 7), "auxiliary": True}),
        ((3, 9, 7), {"genotype": {"normal": EVERY_OPERATION, "reduce": EVERY_OPERATION}}),
        ((2, 5, 1), {"cells": 1}),
        ((2, 5, 5), {"cells": 2, "widths": (2, 3)}),
        ((3, 6, 6), {"genotype": "DARTS_V1", "cells": 7, "stem_multiplier": 1}),
    ],
)
def test_sizes_are_those_of_the_network_with_its_memory(shape: tuple[int, int, int], options: dict[str, Any]) -> None:
    spec = spec_of({"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 4, **options}, shape)
    network = spec.build()
    assert size(spec, "params") == count_parameters(network)
    assert size(spec, "flops") == multiply_adds(network, shape)


@pytest.mark.parametrize(
    ("name", "measure", "last"),
    [
        ("uniform", "flops", {"parameters": 1_412_992, "ratio": 1.9656, "widths": [23] * 6 + [46] * 7 + [92] * 7}),
        ("depth", "flops", {"parameters": 1_414_410, "ratio": 1.9888, "widths": [16] * 13 + [32] * 13 + [64] * 13}),
        (
            "random",
            "params",
            {
                "parameters": 1_422_264,
                "ratio": 2.0013,
                "widths": [23, 28, 23, 34, 28, 16, 55, 38, 38, 61, 32, 46, 46, 132, 77, 77, 110, 92, 77, 110],
            },
        ),
        (
            "random",
            "flops",
            {
                "parameters": 1_403_040,
                "ratio": 2.0048,
                "widths": [23, 28, 23, 28, 28, 16, 55, 38, 38, 55, 32, 46, 46, 132, 77, 77, 110, 92, 77, 110],
            },
        ),
    ],
)
def test_plans_build_no_network_and_are_what_counts_of_whole_networks_gave(
    name: str, measure: str, last: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded when each size was counted on a network of its own."""
    monkeypatch.setattr(Darts, "build", None)
    method = GROWTH_METHODS.parse({"name": name, "measure": measure})
    engine = Engine(EngineSettings(accelerator="cpu", precision="32"))
    grown = method.grow(Student(spec_of("darts-v2-16-20"), nn.Identity(), (), engine))
    assert {key: grown.steps[-1][key] for key in last} == last


def test_a_size_that_no_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasdistill.models.memory_limit.memory_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"this machine has 1 kB of memory; choose a smaller one"):
        size(tiny(), "params")


def test_the_published_growths_of_darts_v2() -> None:
    student = spec_of("darts-v2-16-10")
    target = Target("params", student, 2.0, 0.02)
    wider = fitted(student, target)
    assert (wider.model.channels, wider.model.widths) == (23, None)
    assert target.ratio_of(wider) == pytest.approx(1.988, abs=5e-4)
    assert target.ratio_of(deepened(student, 19)) == pytest.approx(2.028, abs=5e-4)


def test_the_cost_of_a_channel_by_hand() -> None:
    """One cell of one node that passes on: a channel costs two 1x1 inputs, their norms, a classifier row."""
    nodes = ((("skip_connect", 1), ("max_pool_3x3", 0)),)
    cells = {"genotype": {"normal": nodes, "reduce": nodes}, "stem_multiplier": 3, "channels": 5, "cells": 4}
    spec = spec_of({"name": "darts", **cells}, (1, 8, 8), classes=7)
    # Cell 3 has width 20 and follows cells 1 and 2, of widths 10 and 20; two channels of scale and shift per norm.
    # Its preprocessors see 10 and 20 channels, and the classifier of 7 classes reads its output.
    assert spec.model.cell_widths() == (5, 10, 20, 20)
    assert channel_costs(spec, "params")["cells.3"] == (10 + 2) + (20 + 2) + 7
    # Maps of 8x8 are 2x2 after two reductions; the factorised reduce also computes a pixel a channel.
    assert channel_costs(spec, "flops")["cells.3"] == 4 * (10 + 20) + 7


def test_scaling_rounds_cells_of_equal_width_one_after_the_other() -> None:
    spec = tiny(widths=(8, 8, 8, 8))
    assert scaled(spec, 1.0).model.cell_widths() == (8, 8, 8, 8)
    assert scaled(spec, 1.5).model.cell_widths() == (12, 12, 12, 12)
    assert [sum(scaled(spec, 1 + eighth / 32).model.widths) for eighth in range(5)] == [32, 33, 34, 35, 36]
    assert scaled(spec, 2.0).model.channels == 8  # the stem grows along


def test_a_model_that_doubles_stays_one() -> None:
    assert scaled(tiny(), 1.5).model.widths is None
    assert scaled(tiny(), 1.5).model.channels == 6


@pytest.mark.parametrize("ratio", [1.2, 1.5, 2.0, 3.7])
@pytest.mark.parametrize("measure", ["params", "flops"])
def test_small_networks_are_fitted_finely(ratio: float, measure: Any) -> None:
    student = tiny(widths=(4, 6, 9, 9))
    target = Target(measure, student, ratio, 0.02)
    grown = fitted(student, target)
    assert size(grown, measure) / size(student, measure) == pytest.approx(ratio, rel=0.02)


@pytest.mark.slow
def test_a_ratio_of_bytes_is_that_of_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_costs, "_table", lambda: tmp_path)
    student = spec_of("mlp-16", (1, 8, 8))
    target = Target("bytes", student, 1.5, 0.02)
    grown = fitted(student, target)
    files = [onnx_costs.exported_costs(spec)[0] for spec in (student, grown)]
    assert files[1] / files[0] == pytest.approx(1.5, rel=0.02)
    assert target.size_of(grown) == pytest.approx(files[1], abs=16)


def test_bytes_of_a_deeper_network_are_told_from_the_students_of_that_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block has a node, whose name only the file has."""

    def estimated(spec: NetworkSpec) -> tuple[int, float]:
        return 4 * size(spec, "params"), 1.0

    def exported(spec: NetworkSpec) -> tuple[int, float]:
        return 4 * size(spec, "params") + 5000 * (spec.model.blocks() or 0), 1.0

    monkeypatch.setattr(onnx_costs, "estimated_costs", estimated)
    monkeypatch.setattr(onnx_costs, "exported_costs", exported)
    student = tiny()
    for other in (deepened(student, 7), scaled(student, 2.0), scaled(deepened(student, 6), 1.5)):
        assert Target("bytes", student, 2.0, 0.02).size_of(other) == exported(other)[0]


def test_a_ratio_of_latencies_is_met_as_well_as_they_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_costs, "estimated_costs", lambda spec: (0, size(spec, "flops") / 1e6))
    student = tiny()
    target = GROWTH_METHODS.parse({"name": "uniform", "measure": "latency"}).target(student)
    assert target.ratio_of(fitted(student, target)) == pytest.approx(2.0, rel=0.05)
    assert target.tolerance == 0.05


def test_a_deeper_network_keeps_the_widths_of_each_resolution() -> None:
    student = spec_of({"name": "darts", "genotype": "DARTS_V2", "cells": 6, "widths": (3, 4, 5, 6, 7, 8)})
    # Six cells reduce at 2 and 4, twelve at 4 and 8.
    assert deepened(student, 12).model.widths == (3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8)
    assert deepened(student, 7).model.widths == (3, 4, 5, 6, 7, 7, 8)
    assert deepened(spec_of("darts-v2-16-10"), 13).model.widths is None


def test_a_network_of_two_cells_can_be_deepened() -> None:
    student = spec_of({"name": "darts", "genotype": "DARTS_V2", "cells": 2, "widths": (3, 5)})
    assert deepened(student, 4).model.widths == (3, 3, 5, 5)


def test_a_step_widens_the_first_cell_in_order_by_its_fraction() -> None:
    spec = tiny(widths=(10, 20, 20, 20))
    target = Target("params", spec, 2.0, 0.02)
    step = next_step(spec, target, ["cells.1", "cells.0"], 0.25, widest(40, 80, 80, 80))
    assert step is not None
    assert (step.unit, step.spec.model.widths, step.last) == ("cells.1", (10, 25, 20, 20), False)


def test_a_step_of_a_narrow_cell_is_one_channel_and_a_full_cell_is_passed_over() -> None:
    spec = tiny()
    target = Target("params", spec, 2.0, 0.02)
    step = next_step(spec, target, ["cells.1", "cells.0"], 0.01, widest(8, 8, 32, 32))
    assert step is not None
    assert (step.unit, step.spec.model.widths) == ("cells.0", (5, 8, 16, 16))
    assert next_step(spec, target, list(widest(0, 0, 0, 0)), 0.01, widest(4, 8, 16, 16)) is None


def test_the_last_step_is_the_one_that_comes_nearest() -> None:
    spec = tiny(channels=16)
    target = Target("params", spec, 1.1, 0.02)
    step = next_step(spec, target, ["cells.3"], 1.0, widest(64, 128, 256, 256))
    assert step is not None
    assert step.last
    width = step.spec.model.cell_widths()[3]
    distances = [target.distance(with_width(spec, "cells.3", other)) for other in range(64, 80)]
    assert distances.index(min(distances)) == width - 64
    assert target.reached(step.spec)


def test_a_step_leaves_out_the_width_at_which_two_units_would_be_one() -> None:
    spec = spec_of({"name": "wrn", "depth": 10, "width": 2, "widths": (31, 32, 64, 128)})
    target = Target("params", spec, 2.0, 0.02)
    step = next_step(spec, target, ["stem"], 0.01, {"stem": 99})
    assert step is not None
    assert widths_of(step.spec) == {"stem": 33, "groups.0": 32, "groups.1": 64, "groups.2": 128}


def test_a_cell_whose_smallest_step_is_too_large_is_left_to_the_next() -> None:
    spec = tiny(widths=(4, 4, 4, 40))
    target = Target("params", spec, 1.01, 0.002)
    assert target.ratio_of(with_width(spec, "cells.3", 41)) > 1.02
    step = next_step(spec, target, ["cells.3", "cells.0"], 0.1, widest(99, 99, 99, 99))
    assert step is not None
    assert step.unit == "cells.0"


def test_what_was_not_reached_is_told_with_how_near_it_came() -> None:
    spec = tiny()
    target = Target("params", spec, 2.0, 0.02)
    with pytest.raises(UserError, match=r"cannot reach 2 times .* params within 2\.0%: the closest is 1\.000 times"):
        target.checked(spec, "doing nothing")


def test_a_model_without_cells_is_told_which_can_grow() -> None:
    with pytest.raises(UserError, match="the model 'maxout' cannot grow: no channels of its network can change"):
        growable(spec_of("fitnet-1"))
    assert reason_not_to_grow(spec_of("darts-v2-4-3")) is None


def test_options_are_validated() -> None:
    with pytest.raises(UserError, match="3 widths for 4 cells"):
        tiny().model.with_options(widths=(1, 2, 3))
