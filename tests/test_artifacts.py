from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdistill.artifacts import FORMAT, MANIFEST, Artifact, Manifest, fits, open_artifact, publish
from nasdistill.errors import DamagedFile, UserError
from nasdistill.storage import files_below, read_sealed, sha256_of, sha256_of_json, write_bytes, write_sealed

PAYLOAD = {
    "spec.json": b'{"model": "wrn-16-1"}',
    "weights.safetensors": bytes(range(64)),
    "pictures/normal.svg": b"<svg/>",
    "empty": b"",
}
FIELDS: dict[str, Any] = {
    "kind": "network",
    "stage": "student",
    "uses": "train",
    "key": "0123",
    "config": {"epochs": 3, "optimizer": {"name": "sgd", "lr": 0.1}},
    "inputs": {"model": "abcd"},
    "seed": 0,
    "metrics": {"accuracy": {"last": 97.2}},
    "cost": {"seconds": 1.5},
    "provenance": {"git": None},
}
quick = settings(max_examples=40)


def published(folder: Path, payload: dict[str, bytes] | None = None, **fields: Any) -> Artifact:
    prepared = folder / "prepared"
    prepared.mkdir(parents=True)
    for name, data in (PAYLOAD if payload is None else payload).items():
        write_bytes(prepared / name, data)
    return publish(prepared, folder / "artifacts" / "student-0123", **{**FIELDS, **fields})


def rewritten(artifact: Artifact, **changes: Any) -> Path:
    """The artifact's folder, its manifest changed by someone who knows how to seal one."""
    write_sealed(artifact.folder / MANIFEST, {**read_sealed(artifact.folder / MANIFEST), **changes})
    return artifact.folder


def test_an_artifact_comes_back_as_it_was_published(tmp_path: Path) -> None:
    artifact = published(tmp_path)
    back = open_artifact(artifact.folder)
    assert back == artifact
    assert back.kind == "network"
    assert back.manifest.files == {name: sha256_of(artifact.folder / name) for name in PAYLOAD}
    assert {path.relative_to(back.folder).as_posix() for path in files_below(back.folder)} == {*PAYLOAD, MANIFEST}
    assert not (tmp_path / "prepared").exists()


def test_publishing_again_replaces_the_artifact(tmp_path: Path) -> None:
    first = published(tmp_path)
    second = published(tmp_path, {"spec.json": b"{}"})
    assert second.folder == first.folder
    assert open_artifact(second.folder).manifest.files.keys() == {"spec.json"}
    assert [path.name for path in first.folder.parent.iterdir()] == ["student-0123"]


def test_numbers_as_keys_are_sealed_as_json_writes_them(tmp_path: Path) -> None:
    artifact = published(tmp_path, metrics={"by epoch": {10: 1.0, 9: 2.0}})
    assert open_artifact(artifact.folder).manifest.metrics == {"by epoch": {"10": 1.0, "9": 2.0}}


def test_the_content_of_a_network_is_its_spec_and_weights(tmp_path: Path) -> None:
    def content(number: int, kind: str, **changes: bytes | None) -> str:
        payload = {**PAYLOAD, **{name.replace("_", "."): data for name, data in changes.items()}}
        kept = {name: data for name, data in payload.items() if data is not None}
        return published(tmp_path / str(number), kept, kind=kind, stage=f"stage {number}").content

    network = content(0, "network")
    assert content(1, "network", history_json=b"[1]") == network
    assert content(2, "network", spec_json=b"{}") != network
    assert content(3, "network", weights_safetensors=b"") != network
    metrics = {"spec_json": None, "weights_safetensors": None}
    assert content(4, "metrics", **metrics) != content(5, "metrics", history_json=b"[1]", **metrics)


@pytest.mark.parametrize(
    ("kind", "wanted", "fit"),
    [
        ("network", "network", True),
        ("network", "architecture", True),
        ("architecture", "network", False),
        ("metrics", "architecture", False),
        ("unknown", "unknown", True),
    ],
)
def test_a_trained_network_is_an_architecture_too(kind: str, wanted: str, fit: bool) -> None:
    assert fits(kind, wanted) is fit


def test_folders_that_are_no_artifacts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone is not an artifact: it holds no artifact\.json"):
        open_artifact(tmp_path / "gone")


@quick
@given(st.data())
def test_a_changed_or_cut_file_is_named(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    artifact = published(tmp_path_factory.mktemp("run"))
    name = data.draw(st.sampled_from([name for name, content in PAYLOAD.items() if content]))
    path = artifact.folder / name
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
    with pytest.raises(DamagedFile) as caught:
        open_artifact(artifact.folder)
    assert str(caught.value) == f"{path} is damaged: its SHA-256 is not the one in artifact.json"
    path.write_bytes(whole)
    assert open_artifact(artifact.folder) == artifact


@pytest.mark.parametrize("name", PAYLOAD)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    artifact = published(tmp_path)
    (artifact.folder / name).unlink()
    with pytest.raises(DamagedFile, match=f"{name} is missing from the artifact 'student'"):
        open_artifact(artifact.folder)
    assert open_artifact(artifact.folder, verify=False) == artifact


@pytest.mark.parametrize(
    ("old", "new"), [("97.2", "98.2"), ('"seed": 0', '"seed": 1'), ('"student"', '"teacher"'), ("{", "[")]
)
def test_a_changed_manifest_is_named(tmp_path: Path, old: str, new: str) -> None:
    artifact = published(tmp_path)
    path = artifact.folder / MANIFEST
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DamagedFile, match=r"artifact\.json is damaged"):
        open_artifact(artifact.folder)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}; this version reads format {FORMAT}"),
        ({"format": None}, f"has format None; this version reads format {FORMAT}"),
        ({"seed": "many"}, r"artifact\.json is damaged: .*integer.* at seed"),
        ({"files": ["spec.json"]}, r"artifact\.json is damaged: .* at files"),
        ({"run": "rm -rf"}, r"artifact\.json is damaged: .* at run"),
    ],
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        open_artifact(rewritten(published(tmp_path), **changes))


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "pictures/../../outside", "..", "..\\outside", "C:\\outside", "C:outside"]
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_manifest_that_points_outside_is_refused(tmp_path: Path, name: str, verify: bool) -> None:
    artifact = published(tmp_path)
    outside = artifact.folder.parent / "outside"
    outside.write_text("secret")
    with pytest.raises(DamagedFile, match=r"artifact\.json names a file outside its folder"):
        open_artifact(rewritten(artifact, files={name: sha256_of(outside)}), verify)


def test_a_failed_publication_keeps_the_old_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = published(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        patch.setattr("nasdistill.storage.write_bytes", lambda path, data: path.write_bytes(data))
        with pytest.raises(OSError, match="full"):
            publish(_prepared(tmp_path), first.folder, **FIELDS)
    assert open_artifact(first.folder) == first


def _prepared(folder: Path) -> Path:
    prepared = folder / "again"
    prepared.mkdir()
    (prepared / "spec.json").write_text("{}")
    return prepared


def test_the_manifest_on_disk_is_the_model_and_its_seal(tmp_path: Path) -> None:
    artifact = published(tmp_path)
    content = json.loads((artifact.folder / MANIFEST).read_text())
    seal = content.pop("sha256")
    assert seal == sha256_of_json(content)
    assert content == artifact.manifest.model_dump(mode="json")
    assert set(content) == set(Manifest.model_fields)
