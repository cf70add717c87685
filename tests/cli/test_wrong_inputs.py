"""Whatever is wrong is told in one sentence with status 2, at once, and takes nothing away; docs/errors.md shows it.

A row of the table in docs/errors.md is what the tool says to the mistake of the same name here, word for word.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from nasdistill.artifacts import MANIFEST, publish
from nasdistill.cli.main import main
from nasdistill.storage import write_json
from tests.cli.conftest import Command
from tests.data.fakes import write_cifar10_binary, write_class_folders, write_idx_set, write_picture

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
SECONDS = 15
"""Far more than any of these takes, also on a machine that is busy."""

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
Mistake = tuple[str, Prepare]
"""The command, and what makes the folder that it is typed in."""


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


def network_of_another_spec() -> None:
    """An artifact whose hashes are right and whose weights are another network's."""
    spec, manifest = Path("net/spec.json"), json.loads(Path("net", MANIFEST).read_text())
    edit(str(spec), classes=12)
    Path("net", MANIFEST).unlink()
    kept = {name: manifest[name] for name in manifest if name not in ("format", "files", "sha256")}
    publish(Path("net"), Path("other"), **kept)


def architecture(**spec: object) -> Prepare:
    """The folder `mine` with a `spec.json` alone."""
    return lambda _: write_json(Path("mine/spec.json"), {"model": "mlp", "shape": [1, 8, 8], "classes": 10, **spec})


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("code-was-run",)


def code_in_weights(save: Callable[[object], object]) -> Prepare:
    return lambda _: save({"a.weight": RunsCode()})


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


IN_THE_DOCS: Mapping[str, Mistake] = {
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
    "a plugin that does not load": ("nasdistill run mine.yaml", plugin("1 / 0")),
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

MORE: Mapping[str, tuple[str, Prepare, str]] = {
    "no such recipe": ("nasdistill run quikstart", nothing, "did you mean 'quickstart'"),
    "empty recipe": ("nasdistill run mine.yaml", text(""), "mine.yaml: a recipe is a mapping"),
    "no stages": ("nasdistill run mine.yaml", text("name: a\nstages: []"), "mine.yaml:2: stages: at least 1"),
    "two documents": ("nasdistill run mine.yaml", recipe("stages:", "---\nstages:"), "remove the second '---'"),
    "deep YAML": ("nasdistill run mine.yaml", text("a: " + "[" * 9999), "mine.yaml:1: nested more than 20 levels"),
    "alias": ("nasdistill run mine.yaml", recipe("name: mine", "name: &a mine"), "anchors and aliases are not allowed"),
    "`with` misspelt": ("nasdistill run mine.yaml", recipe("with:", "wiht:"), "did you mean 'with'?"),
    "name is a path": ("nasdistill run mine.yaml", recipe("name: mine", "name: ../mine"), "got '../mine'"),
    "dotted objective": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: teacher, objectives: [{name: os.system}]"),
        "mine.yaml:10: stages.student.objectives.0.name: unknown objective 'os.system'",
    ),
    "_target_": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: {_target_: os.system}"),
        "stages.student.teacher: input should be a valid string",
    ),
    "negative temperature": (
        "nasdistill run mine.yaml",
        recipe("teacher: teacher", "teacher: teacher, objectives: [{name: kd, temperature: -4}]"),
        "stages.student.objectives.0.temperature: input should be greater than 0, got -4",
    ),
    "misspelt model": ("nasdistill run mine.yaml", recipe("wrn-10-1", "wrm-10-1"), "did you mean 'wrn'?"),
    "override below text": (
        "nasdistill run mine.yaml stages.a.b=1",
        text("name: a\nstages: [{name: a, uses: train, with: hello}]"),
        "override 'stages.a.b=1': there is nothing below 'stages.a.with'",
    ),
    "override without value": ("nasdistill run mine.yaml seed", recipe(), "override 'seed': write it as key.path=val"),
    "command misspelt": ("nasdistill trian", nothing, "Did you mean 'train'?"),
    "negative option": (
        "nasdistill train mlp --epochs -3",
        nothing,
        "--epochs: input should be greater than 0, got -3",
    ),
    "misspelt --set": ("nasdistill train mlp --set optimizer.lrr=1", nothing, "did you mean 'lr'?"),
    "ratio": ("nasdistill grow-teacher --student mlp --ratio 0.5", nothing, "--ratio: input should be greater than 1"),
    "ratio nan": ("nasdistill grow-teacher --student mlp --ratio nan", nothing, "--ratio: input should be a finite"),
    "space as path": ("nasdistill search --space ../../x", nothing, "--space: unknown space '../../x'"),
    "huge network": ("nasdistill inspect mlp-99999999-99999999", nothing, "this machine has too little memory for it"),
    "no class folders": (f"nasdistill train mlp {FOLDER}", lambda _: Path("photos").mkdir(), "photos holds 0 class"),
    "text as image": (
        f"nasdistill train mlp {FOLDER}",
        photos(lambda: Path("photos/bee/004.png").write_text("hello")),
        "photos/bee/004.png is not a readable image",
    ),
    "link to nowhere": (
        f"nasdistill train mlp {FOLDER}",
        photos(lambda: os.symlink("gone", "photos/ant/zz.png")),
        "cannot use photos/ant/zz.png: no such file",
    ),
    "MNIST cut": (
        "nasdistill train mlp --data mnist",
        files(
            lambda: write_idx_set(Path("data/MNIST/raw"), packed=False),
            lambda: cut("data/MNIST/raw/train-images-idx3-ubyte", 99),
        ),
        "data/MNIST/raw/train-images-idx3-ubyte is damaged or not the original",
    ),
    "normalisation of colours": (
        "nasdistill train mlp --data '{name: digits, normalisation: {mean: [0, 0, 0], std: [1, 1, 1]}}'",
        nothing,
        "data.normalisation.mean: the images have 1 channel(s), but 3 number(s) were given",
    ),
    "weights cut": (
        "nasdistill evaluate net",
        network(lambda: cut("net/weights.safetensors", 40)),
        "net/weights.safetensors is damaged",
    ),
    "spec missing": ("nasdistill evaluate net", network(Path("net/spec.json").unlink), "net/spec.json is missing"),
    "another shape": ("nasdistill evaluate net", network(pixels="3x8x8"), "--network: the network 'net' is made for"),
    "manifest cut": (
        "nasdistill evaluate net",
        network(lambda: cut("net/artifact.json", 99)),
        "net/artifact.json is damaged",
    ),
    "weights of another spec": (
        "nasdistill evaluate other",
        network(network_of_another_spec),
        "other/weights.safetensors does not fit its spec.json: size mismatch for classifier",
    ),
    "architecture alone": ("nasdistill evaluate mine", architecture(), "--network: 'mine' is no artifact"),
    "spec is a list": (
        "nasdistill inspect mine",
        lambda _: write_json(Path("mine/spec.json"), []),
        "mine/spec.json is damaged: it is not a mapping",
    ),
    "bare pickle": (
        f"{IMPORT} w.pth",
        code_in_weights(lambda content: Path("w.pth").write_bytes(pickle.dumps(content))),
        "w.pth is ",
    ),
    "picture as weights": (f"{IMPORT} w.png", lambda _: write_picture(Path("w.png")), "w.png is neither a safetensors"),
    "no weights": (f"{IMPORT} w.pth", nothing, "w.pth is not there"),
    "import into a folder of one's own": (
        f"{IMPORT} trained.safetensors",
        files(lambda: weights()(pytest.MonkeyPatch()), lambda: write_picture(Path("net/holiday.png"))),
        "net holds something else than an imported network",
    ),
    "folder below a file": (
        "nasdistill run mine.yaml --out mine.yaml/run",
        recipe(),
        "mine.yaml/run cannot be the folder of a run",
    ),
    "sweep without values": ("nasdistill run mine.yaml --sweep seed=", recipe(), "seeds are no part of a grid"),
    "sweep of broken YAML": ("nasdistill run mine.yaml --sweep data.limit=[9", recipe(), "not valid YAML"),
    "sweep of a wrong value": (
        "nasdistill run mine.yaml --sweep engine.precision=32,bf61",
        recipe(),
        "--sweep engine.precision=bf61: engine.precision: input should be 'auto', '32' or 'bf16', got 'bf61'",
    ),
    "a layer that only `:input` misspells": (
        "nasdistill distill --student mlp-8 --teacher net "
        "--objectives '{name: rkd, pair: [\"hidden.0:inptu\", classifier]}'",
        network(),
        "--objectives: the student has no module 'hidden.0:inptu'; did you mean 'hidden.0:input'?",
    ),
    "a pair of one": (
        "nasdistill hints --student mlp-8 --teacher net --pair '[hidden.0]'",
        network(),
        "--pair: at least 2 must be given, got ['hidden.0']",
    ),
    "a pair of three": (
        "nasdistill hints --student mlp-8 --teacher net --pair '[a, b, c]'",
        network(),
        "--pair: at most 2 may be given, got ['a', 'b', 'c']",
    ),
    "a weight that is no number": (
        "nasdistill distill --student mlp-8 --teacher net --teacher-weights '[x]'",
        network(),
        "--teacher-weights.0: input should be a valid number",
    ),
    "an objective without a name": (
        "nasdistill distill --student mlp-8 --teacher net --objectives ''",
        network(),
        "--objectives.0: an objective is a name or a mapping with a name and options",
    ),
    "the neighbour of an artifact": (
        "nasdistill evaluate ./nett",
        network(),
        "unknown stage or artifact folder './nett'; did you mean 'net'? (known: ...)",
    ),
    "zero-shot from a model": (
        "nasdistill zero-shot --student mlp-8 --teacher wrn-10-1",
        nothing,
        "--teacher: 'wrn-10-1' is a model, not yet a network: train it in a stage of its own",
    ),
    "zero-shot without losses": (
        "nasdistill zero-shot --student mlp-8 --teacher net --generator-losses '{name: adversarial, weight: 0}'",
        network(),
        "--generator-losses: at least one must have a weight over 0",
    ),
    "attention of a perceptron": (
        "nasdistill zero-shot --student mlp-8 --teacher net",
        network(),
        "--objectives: attention: ",
    ),
    "training without images": (
        "nasdistill train mlp --data none",
        nothing,
        "this stage works on images, but the data set is 'none'; name one with `data`",
    ),
    "no run to report": ("nasdistill report nowhere", nothing, "nowhere is not a run: there is no such folder"),
}


def sentence(command: str, prepare: Prepare, nasdistill: Command, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """What the tool says to a mistake; everything else that must hold for any mistake is asserted."""
    prepare(patch)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    began = time.monotonic()
    done = nasdistill(*shlex.split(command)[1:], "--quiet")
    assert time.monotonic() - began < SECONDS
    assert done.returncode == 2, done.stderr
    *warnings, told = done.stderr.splitlines()
    assert [line for line in warnings if not line.startswith("the plugin mine.py is left out: ")] == []
    assert told.startswith("nasdistill: ")
    assert not (folder / "code-was-run").exists()
    assert {path: path.read_bytes() for path in before if path.is_file()} == before, "what was there is as it was"
    return re.sub(r"\(known: [^)]*\)", "(known: ...)", told.removeprefix("nasdistill: "))


def row(did: str, command: str, told: str) -> str:
    return f"| {did} | `{command}` | {told.replace('|', chr(92) + '|').replace('<', '&lt;')} |"


@pytest.mark.parametrize("did", IN_THE_DOCS)
def test_the_docs_tell_what_is_said(
    did: str, nasdistill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, prepare = IN_THE_DOCS[did]
    assert (
        row(did, command, sentence(command, prepare, nasdistill, tmp_path, monkeypatch))
        in PAGE.read_text().splitlines()
    )


def test_every_row_of_the_docs_is_tried() -> None:
    rows = re.findall(r"^\| ([^|]+) \| `", PAGE.read_text(), re.MULTILINE)
    assert rows == list(IN_THE_DOCS)


@pytest.mark.parametrize("did", MORE)
def test_a_mistake_is_told_in_one_sentence(
    did: str, nasdistill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, prepare, words = MORE[did]
    assert words in sentence(command, prepare, nasdistill, tmp_path, monkeypatch)
