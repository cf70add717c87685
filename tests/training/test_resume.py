"""A training that is killed ends with the same bits as one that is not; real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import nasdistill.training.fabric  # noqa: F401  (once here, rather than in every child)
from nasdistill.errors import Interrupted
from nasdistill.storage import load_state, sha256_of
from tests.children import InAChild
from tests.training import mortal
from tests.training.mortal import LAST, STEPS

ROOT = Path(__file__).parents[2]


def killed(in_a_child: InAChild, folder: Path, step: int = -1, signal_number: int = 0) -> int:
    """The status, as `subprocess` tells it, of a training that may die at a step."""

    def act() -> None:
        try:
            mortal.main(folder, step, signal_number)
        except Interrupted as stop:
            os._exit(128 + stop.signal_number)

    return os.waitstatus_to_exitcode(in_a_child(act))


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


def test_killed_inside_an_epoch_at_its_edge_and_politely(in_a_child: InAChild, tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    # In a process that inherits nothing: what children have of this one cannot stand for what was saved.
    subprocess.run([sys.executable, "-m", "tests.training.mortal", str(unbroken)], cwd=ROOT, check=True)

    inside = STEPS + 1 + 2  # the third step of the second epoch; the last state saved is that of its first step
    assert killed(in_a_child, broken, inside, signal.SIGKILL) == -signal.SIGKILL
    assert number(newest(broken)) == 6

    asked = inside + 2
    assert killed(in_a_child, broken, asked, signal.SIGTERM) == 128 + signal.SIGTERM
    assert number(newest(broken)) == asked, "a polite stop loses no step"

    edge = 2 * (STEPS + 1)  # the second epoch is trained and scored, which is not saved yet
    assert killed(in_a_child, broken, edge, signal.SIGKILL) == -signal.SIGKILL
    assert number(newest(broken)) == asked, "progress never goes back"

    assert killed(in_a_child, broken) == 0
    assert sha256_of(broken / "weights.safetensors") == sha256_of(unbroken / "weights.safetensors")
    states = [load_state(newest(folder)) for folder in (unbroken, broken)]
    assert number(newest(broken)) == LAST
    assert {"losses", "task", "optimizer", "average", "random", "course", "history"} == set(states[0])
    assert differences(*states) == ["/course/seconds", "/course/evaluating"]
