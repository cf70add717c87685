"""The stage `truth`: cells and searched networks with what they really score, and what no table knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill.errors import SpecError
from nasdistill.models.base import load_spec
from nasdistill.registry import build
from nasdistill.report import payloads
from nasdistill.report.sections.truth import TruthPayload, table
from nasdistill.stages import STAGES
from tests.stages.parts import context_in, few_digits, network_artifact

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def test_strings_models_and_artifacts_are_told(tmp_path: Path) -> None:
    data = few_digits()
    artifact = network_artifact(tmp_path / "searched", data, BEST, trained=False)
    context = context_in(tmp_path, data)
    place = ("architectures", 2)
    listed = [SKIPS, {"name": "nas-bench-201", "cell": SKIPS, "channels": 4}, "searched"]
    stage = build(STAGES.get("truth"), {"architectures": listed})
    stage.foresee({place: load_spec(artifact.folder)}, context)
    stage.run({place: artifact}, context)
    found = payloads.read(TruthPayload, context.folder)
    assert found is not None
    rows = [[str(cell) for cell in row] for row in table({0: found}).rows]
    collapsed = ["54.30", "40.07", "15.61", "57.90", "16.32", "30.99"]
    assert [row[1::3] + row[3::3] for row in rows[:2]] == [collapsed[::2] + collapsed[1::2]] * 2
    assert rows[2][:4] == [f"searched ({BEST})", "94.37", "1", "0.00"]
    assert rows[0][0] == SKIPS
    repeated = table({0: found, 7: found})
    assert repeated.header[1] == "seed"
    assert [str(row[1]) for row in repeated.rows] == ["0"] * 3 + ["7"] * 3


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        ("wrn-16-1", "no table of true accuracies exists for a network of the model 'wrn'"),
        ("|none~0|", "the cells of NAS-Bench-201 have 3 nodes beside their input, got 1"),
        (SKIPS.replace("skip_connect~2", "skip_conect~2"), "did you mean 'skip_connect'"),
    ],
)
def test_what_no_table_knows_is_refused_before_the_run(tmp_path: Path, architecture: str, sentence: str) -> None:
    stage = build(STAGES.get("truth"), {"architectures": [SKIPS, architecture]})
    with pytest.raises(SpecError, match=sentence) as caught:
        stage.foresee({}, context_in(tmp_path, few_digits()))
    assert caught.value.path[:2] == ("architectures", 1)
