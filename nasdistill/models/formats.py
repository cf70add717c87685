"""What a file is that is given as weights, by how it begins and what its archive holds."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from nasdistill.errors import UserError

Format = Literal["safetensors", "torch"]

SAVE_ALONE = "save its weights alone, where it was made: torch.save(model.state_dict(), 'weights.pth')"

_OTHERS = {
    b"\x89HDF": "is a file of HDF5, as Keras writes them",
    b"\x93NUMPY": "is a single array of NumPy",
    b"GGUF": "is a file of GGUF",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "is compressed by xz; unpack it first",
    b"(\xb5/\xfd": "is compressed by zstd; unpack it first",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself, which `git lfs pull` fetches",
    b"<": "is a web page, not the file that was to be downloaded",
}
"""How files of other programs begin, and what to say of them."""


def format_of(path: Path) -> Format:
    """Which reader a file is for.

    Raises:
        UserError: there is no such file, it is damaged, unpacks to more than it weighs, or is of another format.
    """
    if not path.is_file():
        raise UserError(f"{path} is {'no file of weights' if path.exists() else 'not there'}")
    with open(path, "rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise UserError(f"{path} is empty")
    if beginning[8:9] == b"{":
        return "safetensors"
    if beginning.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return "torch"
    if beginning.startswith(b"\x80"):
        return "torch"
    raise UserError(f"{path} {_other(path, beginning)}")


def _check_archive(path: Path) -> None:
    """Refuse an archive of another program, and one that unpacks to more than it weighs; torch does not compress."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        raise UserError(f"{path} is damaged: its end is missing, as after a download that broke off") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    program = _program([member.filename for member in members])
    if program is not None:
        raise UserError(f"{path} {program}")
    size, unpacked = path.stat().st_size, sum(member.file_size for member in members)
    if unpacked > size:
        raise UserError(f"{path} unpacks from {size:,} to {unpacked:,} bytes, which no file of torch.save does")


def _program(members: Sequence[str]) -> str | None:
    """What an archive is if not one of torch.save, by the names in it."""
    names = {PurePosixPath(member).name for member in members}
    if "constants.pkl" in names:
        return f"is a program of TorchScript, not a state dict; {SAVE_ALONE}"
    if names & {"archive_format", "serialized_exported_program.json"}:
        return f"is a program of torch.export, not a state dict; {SAVE_ALONE}"
    if "data.pkl" in names:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "is an archive of NumPy, not a state dict; torch.save writes one from a dictionary of tensors"
    return f"is an archive, but none of torch.save: it holds {', '.join(sorted(members)[:3]) or 'nothing'}"


def _other(path: Path, beginning: bytes) -> str:
    if path.suffix == ".onnx":
        return f"is a program of ONNX, not a state dict; {SAVE_ALONE}"
    start = beginning.lstrip()
    if path.name.endswith(".index.json"):
        with suppress(ValueError, TypeError, LookupError, AttributeError):
            files = sorted({*json.loads(path.read_bytes())["weight_map"].values()})
            return f"lists the files that hold a network's weights ({', '.join(files[:3])}), to be joined in one first"
    told = next((what for other, what in _OTHERS.items() if start.startswith(other)), None)
    return told or "is neither a safetensors file nor a file of torch.save"
