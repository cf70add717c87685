"""What docs/errors.md says of a mistake is what the tool says to it, word for word.

A row of its table is the mistake of the same name here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tests.cli.mistakes import (
    FOLDER,
    IMPORT,
    Prepare,
    architecture,
    code_in_weights,
    cut,
    edit,
    files,
    flip,
    network,
    nothing,
    photos,
    plugin,
    recipe,
    weights,
)
from tests.data.fakes import write_cifar10_binary

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def in_use(patch: pytest.MonkeyPatch) -> None:
    Path("runs/mine").mkdir(parents=True)
    lock = FileLock("runs/mine/run.lock")
    lock.acquire()
    patch.setattr(in_use, "lock", lock, raising=False)  # held until the test is over
    recipe()(patch)


def disk_full(patch: pytest.MonkeyPatch) -> None:
    def no_room(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    network()(patch)
    patch.setattr(os, "fsync", no_room)


def small_machine(patch: pytest.MonkeyPatch) -> None:
    """Two cores and nothing else."""
    patch.setattr(torch.cuda, "device_count", lambda: 0)
    patch.setattr(torch.backends.mps, "is_available", lambda: False)
    patch.setattr(os, "cpu_count", lambda: 2)


IN_THE_DOCS: Mapping[str, tuple[str, Prepare]] = {
    "a key is misspelt": ("nasdistill run mine.yaml", recipe("seed: 0", "sede: 0")),
    "an option is misspelt": ("nasdistill run mine.yaml", recipe("epochs: 1", "epoch: 1")),
    "a word where a number belongs": ("nasdistill run mine.yaml", recipe("epochs: 1", "epochs: many")),
    "a key stands there twice": ("nasdistill run mine.yaml", recipe("seed: 0", "seed: 0\nseed: 1")),
    "the YAML is broken": ("nasdistill run mine.yaml", recipe("epochs: 1}", "epochs: 1")),
    "a tag names code": ("nasdistill run mine.yaml", recipe("name: mine", "name: !!python/name:os.system mine")),
    "a stage reads one that is not there": ("nasdistill run mine.yaml", recipe("teacher: teacher", "teacher: techer")),
    "stages read each other": ("nasdistill run mine.yaml", recipe("model: wrn-10-1", "model: student")),
    "a depth that the model does not have": ("nasdistill run mine.yaml", recipe("wrn-10-1", "wrn-12-1")),
    "a seed is given twice": ("nasdistill run mine.yaml seed=null seeds=[1,1]", recipe()),
    "an override names no stage": ("nasdistill run mine.yaml stages.techer.epochs=2", recipe()),
    "an override has a wrong value": ("nasdistill run mine.yaml stages.teacher.epochs=-2", recipe()),
    "an option of a command has a wrong value": ("nasdistill train mlp --epochs three", nothing),
    "a model where a trained network is needed": ("nasdistill distill --student mlp --teacher wrn-10-1", nothing),
    "a folder of images that is not there": (f"nasdistill train mlp {FOLDER}", nothing),
    "a broken image": (f"nasdistill train mlp {FOLDER}", photos(lambda: cut("photos/ant/003.png", 70))),
    "images of one class only": (f"nasdistill train mlp {FOLDER}", photos(classes=("ant",))),
    "too few images": (f"nasdistill train mlp {FOLDER}", photos(per_class=1)),
    "a file of CIFAR-10 that is cut": (
        "nasdistill train mlp --data cifar10",
        files(lambda: write_cifar10_binary(Path("data")), lambda: cut("data/cifar-10-batches-bin/data_batch_2.bin", 9)),
    ),
    "weights with a flipped bit": ("nasdistill evaluate net", network(lambda: flip("net/weights.safetensors"))),
    "an edited artifact.json": ("nasdistill evaluate net", network(lambda: edit("net/artifact.json", kind="metrics"))),
    "a network for another number of classes": ("nasdistill evaluate net", network(classes=7)),
    "a spec that looks like code": ("nasdistill inspect mine", architecture(model="os.system('ls')")),
    "foreign weights that hold code": (
        f"{IMPORT} w.pth",
        code_in_weights(lambda content: torch.save(content, "w.pth")),
    ),
    "foreign weights of another network": (f"{IMPORT} trained.safetensors", weights(pixels=32)),
    "foreign weights that are not numbers": (f"{IMPORT} trained.safetensors", weights(value=float("nan"))),
    "a recipe that brings code": ("nasdistill run mine.yaml", plugin("pass")),
    "a plugin that does not load": ("nasdistill run mine.yaml --trust", plugin("1 / 0")),
    "an option of an objective is misspelt": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: teacher, objectives: [{name: kd, temprature: 4}]"),
    ),
    "less than nothing is left to the labels": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: teacher, objectives: [{name: kd-mean, weight: 1.8}]"),
    ),
    "one of several teachers is not there": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: [teacher, techer]"),
    ),
    "more weights than teachers": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: [teacher], teacher_weights: [2, 1]"),
    ),
    "a layer that the teacher does not have": (
        "nasdistill distill --student mlp-8 --teacher net "
        "--objectives '{name: hints, pair: [hidden.0, \"clasifier:input\"]}'",
        network(),
    ),
    "a network that names no layers of its own": ("nasdistill hints --student wrn-10-1 --teacher net", network()),
    "a network with nothing to make binary": ("nasdistill train '{name: mlp-8, binary: xnor}'", nothing),
    "a real network as packed bits": ("nasdistill export net --format packed", network()),
    "steps by fraction that leave out the start": (
        "nasdistill zero-shot --student mlp-8 --teacher net --generator-steps '{0.33: 2, 0.67: 4}'",
        network(),
    ),
    "an objective that needs training images, without any": (
        "nasdistill zero-shot --student mlp-8 --teacher net --objectives divergence --objectives crd",
        network(),
    ),
    "test images that the teacher cannot read": (
        "nasdistill zero-shot --student mlp-8 --teacher net --objectives divergence --data digits",
        network(pixels="3x8x8"),
    ),
    "a teacher whose normalisation nobody knows, and test images": (
        "nasdistill zero-shot --student mlp-8 --teacher net --objectives divergence --data digits",
        network(),
    ),
    "a swept key is misspelt": ("nasdistill run mine.yaml --sweep stages.student.epoch=1,2", recipe()),
    "a swept value stands there twice": ("nasdistill run mine.yaml --sweep stages.student.epochs=1,2,1", recipe()),
    "a key is swept and overridden": (
        "nasdistill run mine.yaml stages.student.epochs=3 --sweep stages.student.epochs=1,2",
        recipe(),
    ),
    "a GPU that is not there": ("nasdistill train mlp --accelerator cuda", small_machine),
    "more devices than there are": ("nasdistill train mlp --devices 64", small_machine),
    "a file where the run should be": (
        "nasdistill run mine.yaml --out mine.yaml",
        recipe(),
    ),
    "two runs in one folder": ("nasdistill run mine.yaml", in_use),
    "the disk is full": ("nasdistill evaluate net", disk_full),
}


def row(did: str, command: str, told: str) -> str:
    for others in (
        r"(?<=not valid YAML: ).*",
        r"(?<=\(OSError: )[^)]*",
    ):  # PyYAML's and Pillow's words
        told = re.sub(others, "...", told)
    return f"| {did} | `{command}` | {told.replace('|', chr(92) + '|').replace('<', '&lt;')} |"


@pytest.mark.parametrize("did", IN_THE_DOCS)
def test_the_docs_tell_what_is_said(did: str, sentence: Callable[[str, Prepare], str]) -> None:
    command, prepare = IN_THE_DOCS[did]
    assert row(did, command, sentence(command, prepare)) in PAGE.read_text().splitlines()


def test_every_row_of_the_docs_is_tried() -> None:
    rows = re.findall(r"^\| ([^|]+) \| `", PAGE.read_text(), re.MULTILINE)
    assert rows == list(IN_THE_DOCS)
