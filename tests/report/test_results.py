from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nasdistill.errors import DamagedFile, UserError
from nasdistill.report.records import Row, RunRecord
from nasdistill.report.results import load_run, save_run, write_results
from nasdistill.storage import read_sealed, write_sealed

Run = tuple[RunRecord, Path]


def test_results_json_is_a_list_with_the_published_keys(one_seed: Run, tmp_path: Path) -> None:
    record, out = one_seed
    save_run(record, out)
    rows = json.loads((out / "results.json").read_text())
    assert [row["stage"] for row in rows] == ["student-arch", "teacher-arch", "teacher", "alone", "student"]
    assert [row["uses"] for row in rows] == ["search", "grow-teacher", "train", "train", "distill"]
    for row in rows:
        assert set(row) == {
            "stage", "uses", "seed", "parameters", "multiply_adds", "accuracy", "seconds", "latency_ms", "artifact",
            "cached", "point", "metrics",
        }  # fmt: skip
        assert (out / row["artifact"] / "artifact.json").is_file()
    assert rows[0]["accuracy"] is None
    assert rows[0]["latency_ms"] is None
    assert rows[2]["accuracy"] == pytest.approx({"last": 97.99, "best": 98.47, "selected": 98.27})
    assert (rows[2]["parameters"], rows[2]["seconds"]) == (104_151, pytest.approx(47.4))


def test_a_stage_without_numbers_has_nulls(tmp_path: Path) -> None:
    write_results((Row("onnx", "export", 0), Row("check", "evaluate", 0, accuracy={"last": 91.5})), tmp_path)
    first, second = json.loads((tmp_path / "results.json").read_text())
    assert all(first[key] is None for key in ("parameters", "multiply_adds", "accuracy", "seconds", "artifact"))
    assert second["accuracy"] == {"last": 91.5, "best": None, "selected": None}


def test_a_run_comes_back_as_it_was(three_seeds: Run) -> None:
    record, out = three_seeds
    save_run(record, out)
    assert load_run(out) == record


def test_a_run_can_be_moved_as_a_whole(one_seed: Run, tmp_path: Path) -> None:
    record, out = one_seed
    save_run(record, out)
    moved = tmp_path / "elsewhere"
    shutil.copytree(out, moved)
    folders = [row.folder for row in load_run(moved).rows]
    assert all(folder is not None and folder.is_relative_to(moved) and folder.is_dir() for folder in folders)


def test_folders_that_are_no_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a run: there is no such folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a run: it holds no run\.json"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 2}, "has format 2; this version reads format 1"),
        ({"seeds": "all"}, r"run\.json is damaged: .* at seeds"),
        ({"rows": [{"stage": "a"}]}, r"run\.json is damaged: .* at rows\.0\.uses"),
        ({"rows": [{"stage": "a", "uses": "b", "seed": 0, "folder": "../../etc"}]}, "names an artifact outside"),
        ({"rows": [{"stage": "a", "uses": "b", "seed": 0, "folder": "/etc"}]}, "names an artifact outside"),
    ],
)
def test_a_changed_record_is_refused(one_seed: Run, tmp_path: Path, change: dict[str, object], problem: str) -> None:
    record, _ = one_seed
    save_run(replace(record, rows=()), tmp_path)
    write_sealed(tmp_path / "run.json", {**read_sealed(tmp_path / "run.json"), **change})
    with pytest.raises(UserError, match=problem):
        load_run(tmp_path)


def test_a_record_changed_by_hand_is_refused(one_seed: Run, tmp_path: Path) -> None:
    record, _ = one_seed
    save_run(replace(record, rows=()), tmp_path)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("quickstart", "slowstart", 1))
    with pytest.raises(DamagedFile, match=r"run\.json is damaged"):
        load_run(tmp_path)
