"""A training that is killed ends with the same bits as one that is not; real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.storage import load_state, sha256_of
from tests.training.mortal import LAST, STEPS

ROOT = Path(__file__).parents[2]


def start(folder: Path, *when: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.mortal", str(folder), *when], cwd=ROOT, env=environment
    )


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("*.safetensors"))


def number(path: Path) -> int:
    return int(path.name.split("-")[0])


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states differ in any bit."""
    if isinstance(one, dict):
        if list(one) != list(other):
            return [path]
        return [found for key in one for found in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list):
        if len(one) != len(other):
            return [path]
        return [
            found for index, _ in enumerate(one) for found in differences(one[index], other[index], f"{path}/{index}")
        ]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [path]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert start(folder).wait() == 0
    return folder


def test_killed_inside_an_epoch_at_its_edge_and_politely(unbroken: Path, tmp_path: Path) -> None:
    inside = STEPS + 1 + 2  # the third step of the second epoch; the last state saved is that of its first step
    assert start(tmp_path, f"{inside}:{signal.SIGKILL:d}").wait() == -signal.SIGKILL
    assert number(newest(tmp_path)) == 6

    asked = inside + 2
    assert start(tmp_path, f"{asked}:{signal.SIGTERM:d}").wait() == 128 + signal.SIGTERM
    assert number(newest(tmp_path)) == asked, "a polite stop loses no step"

    edge = 2 * (STEPS + 1)  # the second epoch is trained and scored, which is not saved yet
    assert start(tmp_path, f"{edge}:{signal.SIGKILL:d}").wait() == -signal.SIGKILL
    assert number(newest(tmp_path)) == asked, "progress never goes back"

    assert start(tmp_path).wait() == 0
    assert sha256_of(tmp_path / "weights.safetensors") == sha256_of(unbroken / "weights.safetensors")
    states = [load_state(newest(folder)) for folder in (unbroken, tmp_path)]
    assert number(newest(tmp_path)) == LAST
    assert {"task", "optimizer", "average", "random", "curves", "kept"} <= set(states[0])
    assert differences(*states) == ["/seconds"]
