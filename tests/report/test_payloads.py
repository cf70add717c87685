from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasdistill.errors import DamagedFile
from nasdistill.report import payloads
from nasdistill.report.sections.cells import GenotypePayload
from nasdistill.report.sections.confusion import ConfusionPayload
from nasdistill.report.sections.growth import GrowthPayload


def test_a_stage_without_a_payload_has_none(tmp_path: Path) -> None:
    assert payloads.read(payloads.HistoryPayload, tmp_path) is None
    assert payloads.read(payloads.HistoryPayload, None) is None


def test_payloads_may_hold_more_than_a_report_shows(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text('{"curves": {"test/accuracy": [[1, 90], [2, 91.5]]}, "selected_epoch": 2}')
    history = payloads.read(payloads.HistoryPayload, tmp_path)
    assert history is not None
    assert history.curves == {"test/accuracy": [(1.0, 90.0), (2.0, 91.5)]}


@pytest.mark.parametrize(
    ("kind", "content", "problem"),
    [
        (payloads.HistoryPayload, {"curves": {"loss": [[1]]}}, r"history\.json cannot be shown: .* at curves\.loss\.0"),
        (payloads.HistoryPayload, [], r"history\.json cannot be shown: .* at the top"),
        (GenotypePayload, {"normal": [[["none", "x"]]], "reduce": []}, r"genotype\.json .* at normal\.0\.0\.1"),
        (GrowthPayload, {"steps": 3, "importance": {}, "widths": {}}, r"growth\.json .* at steps"),
        (ConfusionPayload, {"labels": ["a"], "matrix": [[1, 2]]}, r"confusion\.json .* must have 1 rows and columns"),
        (ConfusionPayload, {"labels": ["a", "b"], "matrix": [[1, 2]]}, "must have 2 rows"),
        (ConfusionPayload, {"labels": [], "matrix": []}, r"confusion\.json"),
    ],
)
def test_wrong_payloads_are_named(tmp_path: Path, kind: type[payloads.Payload], content: object, problem: str) -> None:
    (tmp_path / kind.file).write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=problem):
        payloads.read(kind, tmp_path)
