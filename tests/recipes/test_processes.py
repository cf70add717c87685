"""A recipe in several processes: all compute, the first one writes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.together import torchrun

RECIPE = """\
name: shared
seed: 0
data: {name: digits, limit: 200}
engine: {accelerator: cpu, precision: "32"}
stages:
  - {name: teacher, uses: train, with: {model: mlp-16, epochs: 2}}
  - {name: student, uses: distill, with: {student: mlp-8, teacher: teacher, epochs: 2}}
  - {name: score, uses: evaluate, with: {network: student}}
  - name: ban
    uses: born-again
    with: {model: mlp-8, generations: 2, epochs: 2, objectives: [cwtm], while_better: true}
"""


def test_torchrun_runs_a_recipe_once(tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text(RECIPE)
    out = tmp_path / "out"
    told = torchrun("nasdistill", "run", "shared.yaml", "--out", out, folder=tmp_path)
    rows = {row["stage"]: row for row in json.loads((out / "results.json").read_text())}
    assert list(rows)[:3] == ["teacher", "student", "score"]
    # How many generations there are depends on scores, which both processes read alike.
    generations = list(rows)[3:-1]
    assert generations == ["ban-0", "ban-1", "ban-2"][: len(generations)]
    assert len(generations) >= 2
    assert rows["score"]["accuracy"]["selected"] == rows["student"]["accuracy"]["selected"]
    assert len(list((out / "artifacts").iterdir())) == len(rows)
    assert told.count("report:") == 1
