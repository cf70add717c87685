"""Loggers: where numbers, pictures, configs and hashes go, after a stop too."""

from __future__ import annotations

import csv
import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.artifacts import Artifact, Manifest, open_artifact
from nasdistill.cli.main import main
from nasdistill.errors import SpecError
from nasdistill.training.loggers import LOGGERS, Logger
from nasdistill.training.records import Records
from nasdistill.training.services import Memory

CONFIG = {"recipe": "small", "stage": "one", "seed": 3, "options": {"epochs": 2, "rates": [1, 2]}, "key": "abc"}
FILES = {"spec.json": "12ab", "weights.safetensors": "34cd"}
LOSSES = [(step, 1 / step) for step in range(1, 5)]


def tell(logger: Logger, folder: Path) -> Artifact:
    """A stage that is killed after its third step, and goes on after its first to the fourth, and to its end."""
    artifact = Artifact(
        folder,
        Manifest(
            kind="network",
            stage="one",
            uses="train",
            key="abc",
            config={},
            inputs={},
            seed=3,
            metrics={"accuracy": {"last": 90.0}, "stopped": None},
            cost={"seconds": 1.5},
            provenance={},
            files=FILES,
        ),
    )
    for steps in ((1, 2, 3), (2, 3, 4)):
        records = Records(folder / "one", "one", quiet=True, loggers=[logger], config=CONFIG)
        for step in steps:
            records.scalars({"train/loss": 1 / step}, step)
        records.images("made up", torch.zeros(2, 3, 4, 4, dtype=torch.uint8), steps[-1])
        records.histogram("answers", [3, 0, 5], steps[-1])
        if 4 in steps:
            records.artifact(artifact)
        records.close()
    return artifact


def test_rows_of_a_killed_stage_are_replaced_by_those_of_the_next(tmp_path: Path) -> None:
    tell(LOGGERS.parse("csv"), tmp_path)
    with (tmp_path / "one.csv").open("a") as file:
        file.write("9,train/lo")
    records = Records(tmp_path / "one", "one", quiet=True, loggers=[LOGGERS.parse("csv")])
    records.scalars({"train/loss": 0.2, 'so, "so"': 1.0}, 5)
    records.close()
    with (tmp_path / "one.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    losses = [[str(step), "train/loss", str(loss)] for step, loss in [*LOSSES, (5, 0.2)]]
    assert rows == [["step", "name", "value"], *losses, ["5", 'so, "so"', "1.0"]]


PLUGIN = """
import json
from nasdistill.training.loggers import LOGGERS, Log, Logger

class Everything(Log):
    def __init__(self, path):
        self.path = path
    def artifact(self, artifact, step):
        self.path.with_suffix(".done").write_text(json.dumps([step, artifact.content, artifact.manifest.files]))
        raise OSError("full")
    def close(self):
        raise OSError("this one is left out and closed no more")

@LOGGERS.register("everything")
class Tell(Logger):
    "All that a logger is told, and fails at the end."
    logs_all_stages = True
    def open(self, place, step, config):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_suffix(".config").write_text(json.dumps(dict(config)))
        return Everything(place)
"""


def test_a_run_tells_config_and_hashes_and_outlives_a_logger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a stage without numbers; and adding a logger repeats no stage."""
    (tmp_path / "everything.py").write_text(PLUGIN)
    (tmp_path / "recipe.yaml").write_text(
        "{name: small, data: {name: digits, limit: 100}, plugins: [everything.py], loggers: [everything], "
        "stages: [{name: one, uses: train, with: {model: mlp-8, epochs: 1}}, "
        "{name: scored, uses: evaluate, with: {network: one}}]}"
    )
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "recipe.yaml"), "--out", str(out), "--trust", "--seed", "5"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum("is left out" in line and line.endswith("OSError: full") for line in lines) == 2
    assert not any("closed no more" in line for line in lines)
    for stage, steps in (("one", 1), ("scored", 0)):
        artifact = open_artifact((out / "stages" / stage).resolve())
        config = json.loads((out / f"tensorboard/{stage}.config").read_text())
        assert {config["recipe"], config["stage"], config["seed"]} == {"small", stage, 5}
        assert (config["key"], config["options"]) == (artifact.manifest.key, artifact.manifest.config)
        told = json.loads((out / f"tensorboard/{stage}.done").read_text())
        assert told == [steps, artifact.content, artifact.manifest.files]
    again = ["run", str(tmp_path / "recipe.yaml"), "--out", str(out), "--trust", "--seed", "5", "--loggers", "csv"]
    assert main(again) == 0
    assert not (out / "tensorboard/one.csv").exists()  # all was done


def test_loggers_are_chosen_on_the_command_line(tmp_path: Path) -> None:
    command = ["train", "mlp-8", "--epochs", "1", "--data", "{name: digits, limit: 60}", "--out", str(tmp_path)]
    assert main([*command, "--loggers", "csv", "--loggers", "{name: jsonl}"]) == 0
    assert sorted(path.name for path in (tmp_path / "tensorboard").iterdir()) == [
        "train.csv",
        "train.jsonl",
        "train.key",
    ]


def test_a_service_is_told_on_from_the_last_step_and_other_work_is_another_run(tmp_path: Path) -> None:
    logger, place = LOGGERS.parse("csv"), tmp_path / "one"
    memory = Memory(logger, place, {"key": "a"})
    assert memory.run is None
    memory.begin("first")
    assert [memory.is_new(step) for step in (5, 5, 12)] == [True, True, True]
    with memory.path.open("a") as file:
        file.write("12")  # cut off by a kill
    again = Memory(logger, place, {"key": "a"})
    assert (again.run, again.is_new(12), again.is_new(13)) == ("first", False, True)
    assert Memory(logger, place, {"key": "a"}).since == 13
    assert Memory(logger, place, {"key": "b"}).run is None
    assert Memory(LOGGERS.parse("jsonl"), place, {"key": "a"}).run is None


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_a_missing_package_is_named_before_anything_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("nasdistill.extras.find_spec", lambda module: None if module == name else real(module))
    with pytest.raises(SpecError, match=rf'the logger {name!r} needs .*: pip install "nasdistill\[{name}\]"'):
        LOGGERS.parse(name)


def test_mlflow_gets_one_run_with_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs nasdistill[mlflow]")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SpecError, match="needs to know where"):
        LOGGERS.parse("mlflow")
    logger = LOGGERS.parse({"name": "mlflow", "tracking_uri": (tmp_path / "mlruns").as_uri()})
    artifact = tell(logger, tmp_path / "logs")
    from mlflow import MlflowClient

    client = MlflowClient(logger.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == LOSSES
    assert (run.info.run_name, run.info.status) == ("one", "FINISHED")
    assert {"seed": "3", "options.epochs": "2", "options.rates": "[1, 2]"}.items() <= run.data.params.items()
    hashes = {f"sha256.{name}": digest for name, digest in {**FILES, "content": artifact.content}.items()}
    assert hashes.items() <= run.data.tags.items()
    assert (run.data.metrics["final.accuracy.last"], run.data.metrics["cost.seconds"]) == (90.0, 1.5)
    pictures = client.list_artifacts(run.info.run_id, "images")
    assert sorted(path.path.split("+")[2] for path in pictures if path.path.endswith(".png")) == ["3", "4"]


def wandb_records(path: Path) -> Iterator[Any]:
    """What Weights & Biases keeps offline: a log of blocks of 32 KiB, in the format of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        end = at + 7 + int.from_bytes(data[at + 4 : at + 6], "little")
        part += data[at + 7 : end]
        if data[at + 6] in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(part)
            part = b""
        at = end


def test_wandb_keeps_runs_offline_that_join_without_doubled_steps(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs nasdistill[wandb]")
    artifact = tell(LOGGERS.parse("wandb"), tmp_path)
    paths = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    for _ in range(600):  # a process of its own writes them, and `finish` does not wait for the disk
        records = [record for path in paths for record in wandb_records(path)]
        if sum(record.HasField("exit") for record in records) == len(paths) == 2:
            break
        time.sleep(0.1)
    told, summary = [], {}
    for record in records:
        items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        if "train/loss" in items:
            told.append((record.history.step.num, float(items["train/loss"])))
        summary.update({item.key: json.loads(item.value_json) for item in record.summary.update if item.key})
    runs = [record.run for record in records if record.HasField("run")]
    assert told == LOSSES
    assert len({run.run_id for run in runs}) == 1
    for run in runs:
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert (run.project, run.display_name, config["options"]) == ("small", "one", CONFIG["options"])
    assert summary["sha256"] == {"content": artifact.content, **FILES}
    assert summary["final.accuracy.last"] == 90.0
    assert len(list((tmp_path / "wandb").glob("offline-run-*/files/media/images/made up*"))) == 2


def test_trackio_gets_one_run_with_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="needs nasdistill[trackio]")
    artifact = tell(LOGGERS.parse("trackio"), tmp_path)
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = SQLiteStorage.get_run_records("small")
    rows = SQLiteStorage.get_logs("small", run["name"])
    assert [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] == LOSSES
    (last,) = [row for row in rows if "sha256.content" in row]
    assert (last["sha256.content"], last["final.accuracy.last"]) == (artifact.content, 90.0)
    assert SQLiteStorage.get_run_config("small", run["name"])["seed"] == 3
