"""Files that are damaged, missing, or something else: images, weights, artifacts."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nasdistill.artifacts import MANIFEST, publish
from nasdistill.storage import write_json
from tests.cli.mistakes import (
    FOLDER,
    IMPORT,
    Mistake,
    Prepare,
    architecture,
    code_in_weights,
    cut,
    edit,
    files,
    network,
    nothing,
    photos,
    weights,
)
from tests.data.fakes import write_idx_set, write_picture


def network_of_another_spec() -> None:
    """An artifact whose hashes are right and whose weights are another network's."""
    spec, manifest = Path("net/spec.json"), json.loads(Path("net", MANIFEST).read_text())
    edit(str(spec), model={"name": "mlp", "hidden": [8]})
    Path("net", MANIFEST).unlink()
    kept = {name: manifest[name] for name in manifest if name not in ("format", "files", "sha256")}
    publish(Path("net"), Path("other"), **kept)


MISTAKES: Mapping[str, Mistake] = {
    "no class folders": (f"nasdistill train mlp {FOLDER}", lambda _: Path("photos").mkdir(), "photos holds 0 class"),
    "text as image": (
        f"nasdistill train mlp {FOLDER}",
        photos(lambda: Path("photos/bee/004.png").write_text("hello")),
        "photos/bee/004.png is not a readable image",
    ),
    "link to nowhere": (
        f"nasdistill train mlp {FOLDER}",
        photos(lambda: os.symlink("gone", "photos/ant/zz.png")),
        "/home/you/photos/ant/zz.png is not a readable image (a link to gone, where nothing is)",
    ),
    "MNIST cut": (
        "nasdistill train mlp --data mnist",
        files(
            lambda: write_idx_set(Path("data/MNIST/raw"), packed=False),
            lambda: cut("data/MNIST/raw/train-images-idx3-ubyte", 99),
        ),
        "data/MNIST/raw/train-images-idx3-ubyte is damaged or not the original",
    ),
    "weights cut": (
        "nasdistill evaluate net",
        network(lambda: cut("net/weights.safetensors", 40)),
        "net/weights.safetensors is damaged",
    ),
    "spec missing": ("nasdistill evaluate net", network(Path("net/spec.json").unlink), "net/spec.json is missing"),
    "another shape": (
        "nasdistill evaluate net",
        network(pixels="3x8x8"),
        "--network: the network '/home/you/net' is made for",
    ),
    "manifest cut": (
        "nasdistill evaluate net",
        network(lambda: cut("net/artifact.json", 99)),
        "net/artifact.json is damaged",
    ),
    "weights of another spec": (
        "nasdistill evaluate other",
        network(network_of_another_spec),
        "other/weights.safetensors does not fit its spec.json: ",
    ),
    "architecture alone": ("nasdistill evaluate mine", architecture(), "--network: '/home/you/mine' is no artifact"),
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
    "the neighbour of an artifact": (
        "nasdistill evaluate ./nett",
        network(),
        "unknown stage or artifact folder '/home/you/nett'; did you mean '/home/you/net'? (known: ...)",
    ),
    "no run to report": ("nasdistill report nowhere", nothing, "nowhere is not a run: there is no such folder"),
}


@pytest.mark.parametrize("did", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(did: str, sentence: Callable[[str, Prepare], str]) -> None:
    command, prepare, words = MISTAKES[did]
    assert words in sentence(command, prepare)
