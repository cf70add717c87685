"""The command `zero-shot`: a network on disk is all that it needs, and Ctrl-C loses nothing."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nasdistill.storage import read_json, sha256_of
from nasdistill.training.checkpoints import Checkpoints
from tests.cli.conftest import Command
from tests.stages.parts import few_digits, network_artifact

COMMAND = (
    "zero-shot --teacher net --student wrn-10-1 --pseudo-batches 6 --batch-size 8 --generator-steps '{0: 1, 0.5: 2}' "
    "--student-steps 2 --watch-every 3 --generator '{name: convolutional, latents: 8, channels: 4}' --pictures 2 "
    "--accelerator cpu --precision 32 --quiet"
)


def test_an_interrupted_command_goes_on_when_it_is_typed_again(
    nasdistill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network_artifact(tmp_path / "net", few_digits(), "wrn-10-1")
    step = Checkpoints.step
    stops = [2, 4]
    taken: list[int] = []

    def interrupted(self: Checkpoints, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        taken.append(number)
        if number in stops:
            stops.remove(number)
            os.kill(os.getpid(), signal.SIGINT)
        step(self, number, capture)

    words = shlex.split(COMMAND)
    assert nasdistill(*words, "--out", "whole").returncode == 0
    monkeypatch.setattr(Checkpoints, "step", interrupted)
    for _ in range(2):
        stopped = nasdistill(*words, "--out", "pieces")
        assert stopped.returncode == 130
        assert "stopped in stage 'zero-shot'" in stopped.stderr
    assert nasdistill(*words, "--out", "pieces").returncode == 0
    assert taken == [1, 2, 3, 4, 5, 6], "no iteration is done twice"

    whole, pieces = (Path(out) / "stages" / "zero-shot" for out in ("whole", "pieces"))
    for name in ("weights.safetensors", "history.json", "pseudo.json"):
        assert sha256_of(whole / name) == sha256_of(pieces / name), name
    curves = read_json(whole / "history.json")["curves"]
    assert "test/accuracy" not in curves, "no data set was named, and none was looked for"
