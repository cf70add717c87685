"""A real process, real signals: it says where it stopped and how to go on, and a second signal ends it at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STAGE = '''
import time
from pathlib import Path
from pydantic import Field
from nasdistill.interrupts import leave_if_requested
from nasdistill.stages import STAGES, Outcome, Stage


@STAGES.register("wait")
class Wait(Stage):
    """Wait until asked to stop."""

    makes = "metrics"
    reads_data = False
    deaf: bool = Field(False, description="go on when asked to stop")

    def run(self, inputs, context):
        Path("started").touch()
        while not Path("enough").exists():
            time.sleep(0.02)
            if not self.deaf:
                leave_if_requested()
        return Outcome()
'''


@contextmanager
def waiting(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`nasdistill wait` in a process of its own, once its stage runs."""
    (folder / "wait.py").write_text(STAGE)
    (folder / "started").unlink(missing_ok=True)
    command = [sys.executable, "-m", "nasdistill", "wait", "--plugin", "wait.py", "--out", "my run", *options]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + 60
            while not (folder / "started").exists():
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_politely_and_the_told_command_goes_on(tmp_path: Path, number: int, status: int) -> None:
    with waiting(tmp_path) as process:
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == status
    *_, last = told.strip().splitlines()
    assert "stopped in stage 'wait', seed 0" in last
    command = last.rpartition(": ")[2]
    assert command == "nasdistill wait --plugin wait.py --out 'my run'"

    (tmp_path / "enough").touch()
    program = shutil.which("nasdistill", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program is not None
    again = command.replace("nasdistill", program, 1)
    assert subprocess.run(again, cwd=tmp_path, shell=True, timeout=60, stdout=subprocess.DEVNULL).returncode == 0  # noqa: S602


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with waiting(tmp_path, "--deaf") as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "the stage goes on"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130  # not asked a second time, it waits for ever
