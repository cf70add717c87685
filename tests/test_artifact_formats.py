"""Artifacts of every format that ever was are read, or refused with a sentence that helps (reliability R10).

`artifact_formats/` holds one of each, by a version that wrote it. Whoever raises the format adds one and changes none.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nasdistill.artifacts import FORMAT, MANIFEST, open_artifact
from nasdistill.errors import DamagedFile, UserError
from nasdistill.models.base import load_network, load_spec

FORMATS = Path(__file__).parent / "artifact_formats"
NAMES = ["1-without-seal", "1", "2"]


def test_there_is_one_of_each_format() -> None:
    assert sorted(path.name for path in FORMATS.iterdir()) == sorted(NAMES)
    assert max(json.loads((FORMATS / name / MANIFEST).read_text())["format"] for name in NAMES) == FORMAT


@pytest.mark.parametrize("name", NAMES)
def test_its_network_answers_as_its_weights_say(name: str) -> None:
    artifact = open_artifact(FORMATS / name)
    assert artifact.kind == "network"
    _, network = load_network(artifact.folder)
    images = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
    weights = load_file(artifact.folder / "weights.safetensors")
    hidden = (images.flatten(1) @ weights["hidden.0.0.weight"].T + weights["hidden.0.0.bias"]).relu()
    expected = hidden @ weights["classifier.weight"].T + weights["classifier.bias"]
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize("name", NAMES)
def test_its_files_are_checked(tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(FORMATS / name, tmp_path / name)
    spec = folder / "spec.json"
    spec.write_text(spec.read_text().replace("0.3", "0.4", 1))
    with pytest.raises(DamagedFile, match=r"spec\.json is damaged: its SHA-256 is not the one in artifact\.json"):
        load_spec(folder)


def test_from_format_2_on_a_manifest_has_its_sha256(tmp_path: Path) -> None:
    folder = shutil.copytree(FORMATS / "2", tmp_path / "2")
    content = json.loads((folder / MANIFEST).read_text())
    del content["sha256"]
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match="its content does not match its SHA-256"):
        open_artifact(folder)


def test_the_format_is_read_before_the_seal(tmp_path: Path) -> None:
    """Another format may be sealed in another way, so that its seal says nothing here."""
    (tmp_path / MANIFEST).write_text(json.dumps({"format": FORMAT + 1, "sha256": "of another kind"}))
    with pytest.raises(UserError, match="a later version of nasdistill wrote it and reads it") as caught:
        open_artifact(tmp_path)
    assert not isinstance(caught.value, DamagedFile)


@pytest.mark.parametrize("kind", ["network", "architecture"])
def test_a_network_without_files_is_damaged(tmp_path: Path, kind: str) -> None:
    content = json.loads((FORMATS / "1-without-seal" / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**content, "kind": kind, "files": {}}))
    with pytest.raises(DamagedFile, match=f"is damaged: it names no file of the {kind}"):
        open_artifact(tmp_path)
