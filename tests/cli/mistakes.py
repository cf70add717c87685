"""What makes a folder in which a command is a mistake: recipes, images, weights, networks with one thing wrong."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nasdistill.cli.main import main
from nasdistill.storage import write_json
from tests.data.fakes import write_class_folders

RECIPE = """\
name: mine
seed: 0
data: digits
stages:
  - name: teacher
    uses: train
    with: {model: wrn-10-1, epochs: 1}
  - name: student
    uses: distill
    with: {student: mlp, teacher: teacher, epochs: 1}
"""
FOLDER = "--data '{name: image-folder, root: photos, size: 8}'"
IMPORT = "nasdistill import --model mlp --set hidden=[] --input 1x8x8 --out net --weights"

Prepare = Callable[[pytest.MonkeyPatch], object]
"""Makes the folder that a command is typed in."""
Mistake = tuple[str, Prepare, str]
"""The command, its folder, and words of the sentence that answers it."""


def nothing(_patch: pytest.MonkeyPatch) -> None:
    pass


def recipe(old: str = "", new: str = "") -> Prepare:
    """A recipe that is right but for one thing."""
    assert old in RECIPE
    return lambda _: Path("mine.yaml").write_text(RECIPE.replace(old, new, 1))


def text(content: str) -> Prepare:
    return lambda _: Path("mine.yaml").write_text(content)


def plugin(code: str) -> Prepare:
    """A recipe that needs an objective of the file beside it."""

    def prepare(_patch: pytest.MonkeyPatch) -> None:
        Path("mine.py").write_text(code)
        with_plugin = RECIPE.replace("seed: 0", "plugins: [mine.py]")
        Path("mine.yaml").write_text(with_plugin.replace("teacher: teacher", "teacher: teacher, objectives: [huber]"))

    return prepare


def photos(spoil: Callable[[], object] = lambda: None, **kind: Any) -> Prepare:
    def prepare(_patch: pytest.MonkeyPatch) -> None:
        write_class_folders(Path("photos"), **kind)
        spoil()

    return prepare


def files(write: Callable[[], object], spoil: Callable[[], object] = lambda: None) -> Prepare:
    def prepare(_patch: pytest.MonkeyPatch) -> None:
        write()
        spoil()

    return prepare


def cut(path: str, length: int) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:length])


def linear(classes: int = 10, pixels: int = 64, value: float = 0.5) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((classes, pixels), value), "a.bias": torch.zeros(classes)}


def weights(**kind: Any) -> Prepare:
    return lambda _: save_file(linear(**kind), "trained.safetensors")


def network(spoil: Callable[[], object] = lambda: None, classes: int = 10, pixels: str = "1x8x8") -> Prepare:
    """The artifact `net`, a trained network, and then something happens to it."""

    def prepare(_patch: pytest.MonkeyPatch) -> None:
        channels, height, width = (int(number) for number in pixels.split("x"))
        save_file(linear(classes, channels * height * width), "trained.safetensors")
        made = shlex.split(f"{IMPORT} trained.safetensors --quiet --input {pixels} --classes {classes}")[1:]
        assert main(made) == 0
        spoil()

    return prepare


def edit(path: str, **changes: object) -> None:
    write_json(Path(path), {**json.loads(Path(path).read_text()), **changes})


def flip(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[-5] ^= 1
    Path(path).write_bytes(bytes(content))


def architecture(**spec: object) -> Prepare:
    """The folder `mine` with a `spec.json` alone."""
    return lambda _: write_json(Path("mine/spec.json"), {"model": "mlp", "shape": [1, 8, 8], "classes": 10, **spec})


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("code-was-run",)


def code_in_weights(save: Callable[[object], object]) -> Prepare:
    return lambda _: save({"a.weight": RunsCode()})
