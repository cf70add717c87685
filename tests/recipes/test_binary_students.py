"""The recipe of binary students: pairs that differ in their teacher alone, and bytes in the report."""

from __future__ import annotations

import json
from pathlib import Path

from nasdistill.models.binary import BinaryLayer
from nasdistill.models.exporters.packed import load_packed
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.report import tables
from nasdistill.report.summaries import by_stage

TRAINED = ("teacher", "real", "weights-alone", "weights-distilled", "xnor-alone", "xnor-distilled")


def test_the_teacher_alone_sets_each_pair_apart() -> None:
    stages = {name: settings.model_dump() for name, settings in load_recipe("binary-students").stages.items()}
    assert tuple(stages) == (*TRAINED, "packed")
    for form in ("weights", "xnor"):
        alone, distilled = stages[f"{form}-alone"], stages[f"{form}-distilled"]
        assert alone.pop("model") == distilled["student"] == {"name": "wrn-16-1", "binary": form}
        assert {**distilled, **alone} == {**distilled, "fresh": False, "show_points": None, "grow": None}


def test_a_tiny_form_runs(tmp_path: Path) -> None:
    tiny = [f"stages.{stage}.epochs=1" for stage in TRAINED]
    tiny += ["data={name: digits, limit: 200}", "seeds=[0]", "engine.accelerator=cpu"]
    tiny += ["stages.teacher.model=mlp-64", "stages.real.model=mlp-64-64-64"]
    for form in ("weights", "xnor"):
        student = "{name: mlp-64-64-64, binary: " + form + "}"
        tiny += [f"stages.{form}-alone.model={student}", f"stages.{form}-distilled.student={student}"]
    record = run(load_recipe("binary-students", tiny), tmp_path / "out", "nasdistill run binary-students")
    assert [row.stage for row in record.rows] == [*TRAINED, "packed"]
    size = {row.stage: row.bytes for row in record.rows}
    assert size["xnor-alone"] == size["xnor-distilled"]
    assert size["weights-alone"] == 4 * (64 * 64 + 64 + 64 * 10 + 10) + 2 * (64 * 64 // 8 + 4 * 64 + 4 * 64)
    assert size["real"] == 4 * (64 * 64 + 64 + 64 * 10 + 10) + 2 * 4 * (64 * 64 + 64)
    table = tables.results(by_stage(record.rows))
    shown = {row[0].text: row[table.header.index("size")].text for row in table.rows}
    assert (shown["real"], shown["weights-alone"]) == ("52.5 kB", "21.3 kB")
    folder = record.rows[-1].folder
    assert folder is not None
    told = json.loads((folder / "artifact.json").read_text())["metrics"]["exports"]["packed"]
    _spec, network = load_packed(folder / told["file"])
    assert told["difference"] == 0
    assert any(isinstance(part, BinaryLayer) for part in network.modules())
