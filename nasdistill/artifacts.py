"""Artifacts: folders that a stage wrote, each with its payload and an `artifact.json` with its origin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nasdistill.errors import DamagedFile, UserError
from nasdistill.storage import files_below, publish_folder, read_sealed, sha256_of, sha256_of_json, write_sealed
from nasdistill.validation import first_mistake

MANIFEST = "artifact.json"
NETWORK_FILES = ("spec.json", "weights.safetensors")
SUPERNET = "supernet.safetensors"
FORMAT = 2
"""1 until manifests had a SHA-256 of their own, and for a while after; its manifests are read with and without."""


class Manifest(BaseModel):
    """The content of `artifact.json`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    format: int = FORMAT
    kind: str
    """`architecture`, a spec; `network`, one with weights; `metrics`, `export`, `comparison`, or a plug-in's."""
    stage: str
    uses: str
    key: str
    """SHA-256 of everything that decides the content: config, inputs, data, seed, code."""
    config: dict[str, Any]
    inputs: dict[str, str]
    """Field of the stage's config to the content hash of the artifact that it read."""
    seed: int
    metrics: dict[str, Any]
    cost: dict[str, Any]
    """`seconds`, `peak_memory_bytes`, `samples_per_second`, `evaluation_share`, `latency_ms`, `export_latency_ms`: what
    differs between machines."""
    provenance: dict[str, Any]
    """`versions`, `git`, `device`, `precision`, `data`, `plugins`."""
    files: dict[str, str]
    """Relative path to SHA-256, for every file beside this one."""


@dataclass(frozen=True)
class Artifact:
    """A finished artifact on disk."""

    folder: Path
    manifest: Manifest

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @property
    def content(self) -> str:
        """A hash of what later stages read, so that equal results of different ways count as equal inputs.

        For a network that is its spec and its weights, and the supernet that it was found in, where that was kept;
        curves and pictures beside them decide nothing.
        """
        files = self.manifest.files
        network = {name: digest for name, digest in files.items() if name in (*NETWORK_FILES, SUPERNET)}
        return sha256_of_json(network or files)

    def verify(self, *names: str) -> None:
        """Check files against their hashes: those with these names, or all.

        Raises:
            DamagedFile: naming the first file that is missing, changed, or none of the artifact's.
        """
        for name in names or self.manifest.files:
            path = self.folder / name
            if not path.is_file():
                raise DamagedFile(f"{path} is missing from the artifact {self.manifest.stage!r}")
            if sha256_of(path) != self.manifest.files.get(name):
                raise DamagedFile(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}")

    def untouched(self) -> bool:
        """Whether the folder holds all that was written, as it was written, and nothing else."""
        try:
            self.verify()
        except DamagedFile:
            return False
        there = {path.relative_to(self.folder).as_posix() for path in files_below(self.folder)}
        return there == {*self.manifest.files, MANIFEST}


def open_artifact(folder: Path, verify: bool = True) -> Artifact:
    """Open the artifact in `folder`.

    Raises:
        UserError: there is none, or it has a format of a later version.
        DamagedFile: the manifest or, with `verify`, a file is not what was written; or a network has no files.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is not an artifact: it holds no {MANIFEST}")
    content = read_sealed(path, newest=FORMAT, sealed_since=2)
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise DamagedFile(f"{path} is damaged: {first_mistake(error)}") from None
    # A manifest may come from another system, so both kinds of path count.
    if any(
        kind(name).is_absolute() or kind(name).drive or ".." in kind(name).parts
        for name in manifest.files
        for kind in (PurePosixPath, PureWindowsPath)
    ):
        raise DamagedFile(f"{path} names a file outside its folder")
    if not manifest.files and manifest.kind in ("architecture", "network"):
        raise DamagedFile(f"{path} is damaged: it names no file of the {manifest.kind}")
    artifact = Artifact(folder, manifest)
    if verify:
        artifact.verify()
    return artifact


def refuse_inside(out: Path) -> None:
    """Refuse a place in a finished artifact, which would no longer be as it was written.

    Raises:
        UserError: `out` is an artifact or lies in one.
    """
    real = out.resolve()
    for folder in (real, *real.parents):
        if _is_artifact(folder):
            raise UserError(f"{out} lies in a finished artifact, {folder}, which stays as it is; choose another folder")


def _is_artifact(folder: Path) -> bool:
    try:
        open_artifact(folder, verify=False)
    except UserError:
        return False
    return True


def publish(prepared: Path, place: Path, **manifest: Any) -> Artifact:
    """Turn the folder `prepared` into the artifact at `place`, in one step.

    Args:
        manifest: the fields of `Manifest` but `files`, which are hashed here.
    """
    files = {path.relative_to(prepared).as_posix(): sha256_of(path) for path in files_below(prepared)}
    written = Manifest(files=files, **manifest)
    write_sealed(prepared / MANIFEST, written.model_dump(mode="json"))
    publish_folder(prepared, place)
    return Artifact(place, written)


def fits(kind: str, wanted: str) -> bool:
    """Whether an artifact of `kind` can be read where `wanted` is asked for: a trained network has an architecture."""
    return kind == wanted or (kind, wanted) == ("network", "architecture")
