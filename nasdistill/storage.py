"""Files that survive a kill: written beside their place, flushed to the disk, renamed into it, and checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdistill.errors import DamagedFile

if TYPE_CHECKING:
    import torch

_STATE_KEY = "nasdistill"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """SHA-256 of plain data, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`: whoever reads sees the old bytes or the new ones, also after a crash.

    Raises:
        OSError: the disk is full or not writable; what was at `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON, atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DamagedFile: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from None


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_folder(prepared: Path, place: Path) -> None:
    """Move a finished folder to `place` in one step, every byte of it on the disk before.

    A folder that stands at `place` already is replaced.
    """
    for path in sorted(prepared.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(prepared)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        retired = place.with_name(f".{place.name}.{uuid.uuid4().hex}.retired")
        os.replace(place, retired)
        shutil.rmtree(retired)
    os.replace(prepared, place)
    sync_folder(place.parent)


def save_state(path: Path, state: Mapping[str, Any]) -> str:
    """Write a tree of mappings, lists, numbers, strings and tensors as one safetensors file; returns its SHA-256.

    Nothing is pickled: tensors go in as tensors, the rest as JSON in the file's metadata.
    """
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    skeleton = _take_tensors(state, tensors)
    data = save(tensors, metadata={_STATE_KEY: json.dumps(skeleton)})
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def load_state(path: Path, expected_sha256: str | None = None) -> dict[str, Any]:
    """Read what `save_state` wrote, on the CPU.

    Raises:
        DamagedFile: the bytes are not those that were written.
    """
    from safetensors import SafetensorError, safe_open

    if expected_sha256 is not None and sha256_of(path) != expected_sha256:
        raise DamagedFile(f"{path} is damaged: its SHA-256 is not the one that was written down")
    try:
        with safe_open(path, framework="pt") as file:
            skeleton = json.loads(file.metadata()[_STATE_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not iterable itself)
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from None
    state: dict[str, Any] = _put_tensors(skeleton, tensors)
    return state


def _take_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A checkpoint must be independent of memory layout and of later in-place updates.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[key, _take_tensors(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_take_tensors(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a state holds tensors and plain data, got {type(value).__name__}")


def _put_tensors(skeleton: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if "tensor" in skeleton:
        return tensors[skeleton["tensor"]]
    if "items" in skeleton:
        return {key: _put_tensors(item, tensors) for key, item in skeleton["items"]}
    if "list" in skeleton:
        return [_put_tensors(item, tensors) for item in skeleton["list"]]
    return skeleton["value"]


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes left directly in `folder`: half-written files and folders on their way out."""
    for path in [*folder.glob(".*.partial"), *folder.glob(".*.retired")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def files_below(folder: Path) -> Iterator[Path]:
    """The regular files below `folder`, in a fixed order."""
    return iter(sorted(path for path in folder.rglob("*") if path.is_file()))
