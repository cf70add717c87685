"""Records: what TensorBoard and the log get."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nasdistill.training.loggers import LOGGERS, Log, Logger
from nasdistill.training.records import Records
from nasdistill.training.waves import WIDTH


def read(folder: Path) -> dict[int, float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars("train/loss")}


def test_scalars_of_a_killed_run_are_replaced_by_those_of_the_next(tmp_path: Path) -> None:
    killed = Records(tmp_path, "train", quiet=True)
    for step in (10, 20, 30):
        killed.scalars({"train/loss": float(step)}, step)
    killed.close()
    again = Records(tmp_path, "train", quiet=True)
    again.scalars({"train/loss": 21.0}, 20)
    again.close()
    assert read(tmp_path) == {10: 10.0, 20: 21.0}


@pytest.mark.parametrize("name", ["csv", "jsonl", "tensorboard"])
def test_logs_of_the_stage_with_other_options_go(tmp_path: Path, name: str) -> None:
    """Its steps are fewer, so that not each of the earlier ones is told again."""
    for key, steps in (("a", (2, 4, 6)), ("b", (5,)), ("b", (7,))):
        records = Records(tmp_path / "stage", quiet=True, loggers=[LOGGERS.parse(name)], config={"key": key})
        for step in steps:
            records.scalars({"train/loss": float(step)}, step)
        records.close()
    if name == "tensorboard":
        assert read(tmp_path / "stage") == {5: 5.0, 7: 7.0}
    else:
        assert (tmp_path / f"stage.{name}").read_text().count("train/loss") == 2


def test_lines_of_json_go_on_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    for steps, broken in (((10, 20, 30), '{"step": 40, "tra'), ((20, 25), "")):
        records = Records(folder, "train", quiet=True, loggers=[LOGGERS.parse("jsonl")])
        for step in steps:
            records.scalars({"train/loss": step + len(steps)}, step)
        records.histogram("answers", [3, 0], 30)
        records.images("made up", torch.zeros(1, 1, 2, 2, dtype=torch.uint8), 30)
        records.close()
        with folder.with_suffix(".jsonl").open("a") as file:
            file.write(broken)
    told = [json.loads(line) for line in folder.with_suffix(".jsonl").read_text().splitlines()]
    losses = [{"step": step, "train/loss": loss} for step, loss in ((10, 13), (20, 22), (25, 27))]
    assert told == [*losses, {"step": 30, "answers": [3, 0]}]
    assert not folder.exists()


class Failing(Logger):
    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        raise ConnectionError("nobody is there")


def test_a_logger_that_fails_is_named_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records(tmp_path / "stage", "train", quiet=True, loggers=[Failing(), LOGGERS.parse("jsonl")])
    for each in (records, records, records.part("trial 1")):
        each.scalars({"train/loss": 1.0}, 5)
        each.close()
    (warning,) = caplog.messages
    assert re.fullmatch(
        r"the logger 'Failing' \(.*test_records\.py, line \d+\) is left out .*: ConnectionError: nobody .*", warning
    )
    assert (tmp_path / "stage.jsonl").read_text() == '{"step": 5, "train/loss": 1.0}\n'
    assert (tmp_path / "stage/trial-1.jsonl").read_text() == '{"step": 5, "train/loss": 1.0}\n'


class Telling(Log):
    """Tells a list which logs were closed."""

    def __init__(self, closed: list[str], part: str) -> None:
        self.closed, self.part = closed, part

    def close(self) -> None:
        self.closed.append(self.part)


def test_parts_have_the_stages_config_and_are_closed_with_it(tmp_path: Path) -> None:
    closed: list[str] = []

    class Noting(Logger):
        def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
            assert config["stage"] == "search"
            return Telling(closed, config.get("part", "whole"))

    records = Records(tmp_path / "search", "search", quiet=True, loggers=[Noting()], config={"stage": "search"})
    for each in (records, records.part("trial 1"), records.part("trial 2")):
        each.scalars({"train/loss": 1.0}, 1)
    records.close()
    assert sorted(closed) == ["trial 1", "trial 2", "whole"]


def test_images_of_one_row_are_drawn_as_waveforms(tmp_path: Path) -> None:
    """What lies between two pixels of TensorBoard's grid is black, and so is all of a wave but its line."""
    records = Records(tmp_path, "zero-shot", quiet=True)
    silence = torch.full((2, 1, 1, 500), 255, dtype=torch.uint8)
    records.images("waves", silence, 1)
    records.images("squares", torch.full((1, 1, 4, 6), 200, dtype=torch.uint8), 1)
    records.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    waves, squares = (
        np.asarray(Image.open(io.BytesIO(events.Images(tag)[0].encoded_image_string))) for tag in ("waves", "squares")
    )
    assert (waves.max(axis=2) == 255).sum() == 2 * WIDTH
    assert (squares.max(axis=2) == 200).sum() == 4 * 6


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_channels_are_a_grid(tmp_path: Path, channels: int) -> None:
    pixels = torch.randint(0, 256, (9, channels, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    records = Records(tmp_path, "zero-shot", quiet=True)
    records.images("made up", pixels, 7)
    records.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    grid = np.asarray(Image.open(io.BytesIO(events.Images("made up")[0].encoded_image_string)))
    shown = pixels if channels == 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    assert grid.shape == (2 * 5 + 3 * 2, 8 * 4 + 9 * 2, 3)  # eight in a row, two black pixels around each
    np.testing.assert_array_equal(grid[2:7, 2:6], shown[0].permute(1, 2, 0))
    np.testing.assert_array_equal(grid[9:14, 2:6], shown[8].permute(1, 2, 0))


def test_a_histogram_has_a_bucket_for_each_number(tmp_path: Path) -> None:
    records = Records(tmp_path, "zero-shot", quiet=True)
    records.histogram("answers", [3, 0, 5], 20)
    records.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (event,) = events.Histograms("answers")
    told = event.histogram_value
    assert (event.step, told.num, told.sum, told.sum_squares, told.min, told.max) == (20, 8, 10, 20, 0, 2)
    counts = dict(zip(told.bucket_limit, told.bucket, strict=True))
    assert [counts[limit] for limit in (0.5, 1.5, 2.5)] == [3, 0, 5]


def test_only_the_first_of_several_processes_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    records = Records(tmp_path, "train")
    records.scalars({"train/loss": 1.0}, 1)
    records.close()
    assert not list(tmp_path.iterdir())


def test_plain_lines_tell_rate_and_total(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Records(tmp_path, "teacher", quiet=True).progress(12, done=10) as progress:
        progress.step("loss 0.5")
        progress.step("loss 0.4")
    (line,) = caplog.messages
    assert line.startswith("teacher: 12/12, ")
    assert line.endswith("loss 0.4")


@pytest.mark.parametrize(
    ("each", "told"), [(90.0, "90.0 s a step, 4 min 30 s left"), (0.25, "4.0 steps/s, 0.8 s left")]
)
def test_the_pace_is_told_in_steps_or_in_seconds_whichever_is_more(
    each: float, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 100.0 + each])
    monkeypatch.setattr("nasdistill.training.records.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("nasdistill.training.records.SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO), Records(tmp_path, "trials", quiet=True).progress(4) as progress:
        progress.step("best: trial 0")
        monkeypatch.undo()
    assert caplog.messages == [f"trials: 1/4, {told}, best: trial 0"]
