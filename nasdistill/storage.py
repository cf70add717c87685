"""Files that survive a kill: written beside their place, flushed to the disk, renamed into it, checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdistill.errors import DamagedFile, UserError

if TYPE_CHECKING:
    import torch

_STATE_KEY = "nasdistill"
_SEAL = "sha256"
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.(partial|retired)")

HEADER_LIMIT = 16 << 20
"""Bytes of a state's header; parsing a larger one would take seconds and a multiple of its size in memory."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
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
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = os.fspath(path)  # the error of a full disk does not name the file
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON, atomically; NaN and infinities are refused."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DamagedFile: the file is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from None


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with its own SHA-256 under the key `sha256`, so that a changed byte shows."""
    write_text(path, sealed(content))


def sealed(content: Mapping[str, Any]) -> str:
    """What `write_sealed` writes."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # what reading gives back: all keys are strings then
    return json_text({**plain, _SEAL: sha256_of_json(plain)})


def read_sealed(path: Path, newest: int | None = None, sealed_since: int = 0) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Args:
        newest: the newest number that may stand under `format`; None where the content has no such key. It is checked
            first, as it decides how all else is read.
        sealed_since: the first format with a SHA-256; earlier ones may lack it.

    Raises:
        UserError: the format is none that this version reads.
        DamagedFile: the content is not what was written.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} is damaged: it must hold a mapping")
    found = content.get("format")
    if newest is not None and not (isinstance(found, int) and 1 <= found <= newest):
        later = isinstance(found, int) and found > newest
        known = f"format {newest}" + (" and earlier ones" if newest > 1 else "")
        hint = "; a later version of nasdistill wrote it and reads it" if later else ""
        raise UserError(f"{path} has format {found!r}; this version reads {known}{hint}")
    if _SEAL not in content and newest is not None and isinstance(found, int) and found < sealed_since:
        return content
    if content.pop(_SEAL, None) != sha256_of_json(content):
        raise DamagedFile(f"{path} is damaged: its content does not match its SHA-256")
    return content


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    if os.name == "nt":  # Windows has no such flush
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_folder(prepared: Path, place: Path) -> None:
    """Move a finished folder to `place` in one step, every byte of it on the disk before.

    A folder that stands at `place` already is replaced; where that fails, it stays.

    Raises:
        OSError: the disk is full or not writable.
    """
    for path in sorted(prepared.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(prepared)
    place.parent.mkdir(parents=True, exist_ok=True)
    retired = place.with_name(f".{place.name}.{uuid.uuid4().hex}.retired")
    replaces = place.exists()
    if replaces:
        os.replace(place, retired)
    try:
        os.replace(prepared, place)
    except BaseException:
        if replaces:
            os.replace(retired, place)
        raise
    sync_folder(place.parent)
    if replaces:
        shutil.rmtree(retired, ignore_errors=True)  # the new one stands; `remove_leftovers` takes what stays


def save_state(path: Path, state: Mapping[str, Any]) -> str:
    """Write a tree of mappings, lists, numbers, strings and tensors as one safetensors file; returns its SHA-256.

    Nothing is pickled: tensors go in as tensors, the rest as JSON in the file's metadata. Keys are strings or numbers;
    tuples come back as lists.

    Args:
        path: `{sha256}` in its name stands for the file's SHA-256.

    Raises:
        TypeError: something else is in the tree.
        ValueError: there is so much beside the tensors that `load_state` would refuse it.
    """
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    skeleton = _take_tensors(state, tensors)
    data = save(tensors, metadata={_STATE_KEY: json.dumps(skeleton)})
    if _header_size(data) > HEADER_LIMIT:
        raise ValueError(f"{path} would have a header of {_header_size(data)} bytes; the most is {HEADER_LIMIT}")
    digest = hashlib.sha256(data).hexdigest()
    write_bytes(path.with_name(path.name.replace("{sha256}", digest)), data)
    return digest


def load_state(path: Path, expected_sha256: str | None = None) -> dict[str, Any]:
    """Read what `save_state` wrote, on the CPU.

    Raises:
        DamagedFile: the bytes are not those that were written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as start:
            if _header_size(start.read(8)) > HEADER_LIMIT:
                raise DamagedFile(f"{path} is damaged: its header claims more than {HEADER_LIMIT} bytes")
        if expected_sha256 is not None and sha256_of(path) != expected_sha256:
            raise DamagedFile(f"{path} is damaged: its SHA-256 is not the one that was written down")
        with safe_open(path, framework="pt") as file:
            skeleton = json.loads(file.metadata()[_STATE_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not iterable itself)
        state = _put_tensors(skeleton, tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from None
    if not isinstance(state, dict):
        raise DamagedFile(f"{path} is damaged: it holds no mapping")
    return state


def _header_size(data: bytes) -> int:
    """Bytes of a safetensors file's header, from the file's first 8 bytes."""
    return int.from_bytes(data[:8], "little")


def _take_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A checkpoint must be independent of memory layout and of later in-place updates.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str | int | float)]:
            raise TypeError(f"a state's keys are strings or numbers, got {wrong[0]!r}")
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
    for path in leftovers(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def leftovers(folder: Path) -> list[Path]:
    """See `remove_leftovers`; what a user may have called so has no such random name."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _LEFTOVER.fullmatch(path.name))


def files_below(folder: Path) -> Iterator[Path]:
    """The regular files below `folder`, in a fixed order."""
    return iter(sorted(path for path in folder.rglob("*") if path.is_file()))
