"""The quick start, killed at ten random moments, ends with the bits of an unbroken run (reliability R1)."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nasdistill import resources
from nasdistill.artifacts import open_artifact

KILLS = 10


def demo(out: Path) -> subprocess.Popen[bytes]:
    recipe = resources.recipes() / "quickstart.yaml"
    command = [
        sys.executable,
        "-m",
        "nasdistill",
        "--quiet",
        "run",
        str(recipe),
        "checkpoint_seconds=1",
        "--out",
        str(out),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def contents(out: Path) -> dict[str, object]:
    artifacts = [open_artifact(folder) for folder in (out / "artifacts").iterdir()]
    return {found.manifest.stage: (found.content, found.manifest.metrics) for found in artifacts}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path / "whole").wait() == 0
    chance = random.Random(0)  # noqa: S311  (chooses when to kill, no secret)
    kills = 0
    while kills < KILLS:
        process = demo(tmp_path / "killed")
        try:
            process.wait(timeout=chance.uniform(3, 8))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            done = sorted(path.name for path in tmp_path.glob("killed/artifacts/*"))
            with capsys.disabled():
                print(f"\nkill {kills}: {len(done)} artifacts done", end="")
    assert demo(tmp_path / "killed").wait() == 0
    assert kills == KILLS
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
