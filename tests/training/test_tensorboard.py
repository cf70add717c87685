"""A stage that was stopped leaves one file of events, with each step once."""

from __future__ import annotations

import shutil
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nasdistill.training.loggers.tensorboard import Events


def told(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, round(event.value, 3)) for event in events.Scalars("loss")]


def tell(folder: Path, start: int, end: int, value: float) -> None:
    events = Events(folder, start)
    for step in range(start, end):
        events.scalars({"loss": value}, step)
    events.close()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def test_what_a_stopped_stage_told_is_joined_up_to_where_it_goes_on(tmp_path: Path) -> None:
    tell(tmp_path, 1, 5, 1.0)
    tell(tmp_path, 4, 6, 2.0)
    tell(tmp_path, 6, 7, 3.0)
    assert len(files(tmp_path)) == 1
    assert told(tmp_path) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 3.0)]


def test_a_kill_cuts_the_last_event_off_and_one_while_joining_doubles_none(tmp_path: Path) -> None:
    tell(tmp_path, 1, 4, 1.0)
    (first,) = files(tmp_path)
    shutil.copy(first, tmp_path / "events.out.tfevents.0.killed")
    first.write_bytes(first.read_bytes()[:-3])
    tell(tmp_path, 4, 5, 2.0)
    assert len(files(tmp_path)) == 1
    assert told(tmp_path) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_a_file_that_holds_no_events_stays(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.notes").write_text("of the user")
    tell(tmp_path, 1, 2, 1.0)
    assert (tmp_path / "events.out.tfevents.notes").read_text() == "of the user"
