"""`inspect` counts what is published, of models and of artifacts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Command


def test_inspect_as_json_has_the_published_count(nasdistill: Command) -> None:
    done = nasdistill("inspect", "wrn-40-1", "--json")
    told = json.loads(done.stdout)
    assert told["parameters"] == 563_930
    assert told["input"] == [3, 32, 32]
    assert told["classes"] == 10
    assert set(told) == {"parameters", "multiply_adds", "bytes", "input", "classes", "feature_points"}


def test_input_classes_and_options_change_the_network(nasdistill: Command) -> None:
    told = json.loads(
        nasdistill(
            *(
                "inspect",
                "{name: mlp, hidden: [7]}",
                "--set",
                "hidden=[5]",
                "--input",
                "1x2x3",
                "--classes",
                "4",
                "--json",
            ),
        ).stdout
    )
    assert told["parameters"] == (6 * 5 + 5) + (5 * 4 + 4)
    assert told["multiply_adds"] == 6 * 5 + 5 * 4


def test_an_artifact_is_inspected_as_it_was_made(nasdistill: Command, tmp_path: Path) -> None:
    spec = {"model": "wrn-10-1", "shape": [1, 8, 8], "classes": 3}
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "spec.json").write_text(json.dumps(spec))
    told = json.loads(nasdistill("inspect", "network", "--json").stdout)
    assert (told["input"], told["classes"]) == ([1, 8, 8], 3)


def test_the_table_lists_layers_and_totals(nasdistill: Command) -> None:
    told = nasdistill("inspect", "wrn-10-1").stdout
    assert re.search(r"^bytes of weights +[0-9]", told, re.MULTILINE)
    assert "classifier" in told
    assert "parameters        77,850" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("wrn-10-1", "--input", "32x32"), "--input takes channels x height x width, as 3x32x32; got '32x32'"),
        (("wrn-10-1", "--classes", "1"), "classes: must be greater than 1"),
        (("wrn-10-1", "--set", "dropout"), "--set 'dropout': write it as key.path=value"),
        (("wrn-10-1", "--set", "droput=0.1"), "did you mean 'dropout'"),
        (("wrn-11-1",), "nearest depths are 10 and 16"),
        ((".",), "holds no network: spec.json is missing"),
        ((".", "--classes", "5"), "is an artifact and fixes its own input, classes and options"),
    ],
)
def test_mistakes(nasdistill: Command, arguments: tuple[str, ...], words: str) -> None:
    done = nasdistill("inspect", *arguments)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr


def test_import_prints_what_it_matched_and_writes_an_artifact(nasdistill: Command, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3)}, tmp_path / "linear.safetensors")
    arguments = ("--model", "mlp", "--set", "hidden=[]", "--weights", "linear.safetensors", "--out", "mine")
    shape = ("--input", "1x2x2", "--classes", "3", "--mean", "0.5", "--std", "0.25", "--labels", "cat,dog,eel")
    done = nasdistill("import", *arguments, *shape)
    assert done.returncode == 0, done.stderr
    assert "2 tensors matched by" in done.stdout
    assert "a.weight -> " in done.stdout
    assert done.stdout.endswith("artifact: mine\n")
    spec = json.loads((tmp_path / "mine" / "spec.json").read_text())
    assert spec["labels"] == ["cat", "dog", "eel"]
    assert spec["normalisation"] == {"mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "does not fit"),
        (("--mean", "0.5"), "--mean and --std come together"),
        (("--mean", "half", "--std", "1"), "--mean takes numbers separated by commas; got 'half'"),
        (("--mean", "0.5,0.5", "--std", "1,1"), "2 means"),
    ],
)
def test_mistakes_of_an_import(nasdistill: Command, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(5, 5)}, tmp_path / "odd.safetensors")
    where = ("--model", "mlp", "--input", "1x2x2", "--weights", "odd.safetensors", "--out", "mine")
    done = nasdistill("import", *where, *arguments)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "mine").exists()


def test_groups_of_channels_are_listed(nasdistill: Command) -> None:
    asked = ("inspect", "wrn-10-1", "--input", "1x8x8", "--channels")
    told = nasdistill(*asked).stdout
    assert re.search(r"groups\.0\.0\.conv1 +16 +groups\.0\.0\.conv1, groups\.0\.0\.norm2 +groups\.0\.0\.conv2", told)
    assert "classifier: 10 stay, because they are the network's outputs" in told
    groups = {group["name"]: group for group in json.loads(nasdistill(*asked, "--json").stdout)["groups"]}
    assert groups["groups.0.0.conv1"] == {"name": "groups.0.0.conv1", "width": 16, "fixed": None, "gives": ["stem"]}


def test_groups_of_channels_are_drawn(nasdistill: Command, tmp_path: Path) -> None:
    asked = ("inspect", "wrn-10-1", "--input", "1x8x8", "--picture", "channels.svg")
    refused = nasdistill(*asked)
    assert (refused.returncode, "give --channels as well" in refused.stderr) == (2, True)
    nasdistill(*asked, "--channels")
    svg = "{http://www.w3.org/2000/svg}"
    drawn = ElementTree.fromstring((tmp_path / "channels.svg").read_text())  # noqa: S314 - of our own making
    words = [text.text for text in drawn.iter(f"{svg}text")]
    assert words[words.index("groups.0.0.conv1") + 1] == "16"
    arrows = {path[0].text: path.get("stroke-dasharray") for path in drawn.iter(f"{svg}path") if len(path)}
    assert arrows["groups.0.0.conv1.weight"] is None
    assert arrows["groups.0.0.conv2.weight"] is not None, "it writes into the sum that the stem began"
