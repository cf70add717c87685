"""Reads the tensors of a file that somebody else wrote, without running anything that it names.

A safetensors file is plain data and is read here. A file of `torch.save` is a pickle, a program: torch's reader that
takes tensors alone does it, in a process of its own with bounds on memory and time (this module, run as a program).
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasdistill.errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "weights", "params", "ema")
"""Keys under which programs keep the weights in a checkpoint, beside the optimiser and the like; the first counts."""

SECONDS = 20
"""Processor time that reading may take; a file of 100 MB takes under one."""

_HEADER_BYTES = 16 * 2**20
_SPARE_BYTES = 256 * 2**20
_REFUSED = 3


@dataclass(frozen=True)
class ForeignState:
    """The tensors of a file.

    Attributes:
        tensors: on the CPU.
        in_order: whether they come in the order in which the modules were made.
    """

    tensors: dict[str, torch.Tensor]
    in_order: bool


def read_state(path: Path, most_bytes: int) -> ForeignState:
    """The tensors in a safetensors file or a file of `torch.save`.

    Args:
        most_bytes: a larger file is refused unread.

    Raises:
        UserError: there is no such file, it is too large, damaged, or holds anything but tensors and plain data.
    """
    if not path.is_file():
        raise UserError(f"{path} is {'no file of weights' if path.exists() else 'not there'}")
    size = path.stat().st_size
    if size > most_bytes:
        raise UserError(
            f"{path} has {size:,} bytes, more than weights of this network and an optimiser's state could take "
            f"({most_bytes:,})"
        )
    with open(path, "rb") as file:
        beginning = file.read(9)
    if beginning[8:] == b"{":
        state = _read_safetensors(path, size, *struct.unpack("<Q", beginning[:8]))
    elif beginning[:4] == b"PK\x03\x04":
        _refuse_bombs(path, size)
        state = _read_elsewhere(path, size)
    elif beginning[:1] == b"\x80":
        state = _read_elsewhere(path, size)
    else:
        raise UserError(f"{path} is neither a safetensors file nor a file of torch.save")
    for name in state.tensors:
        if not name.isprintable():
            raise UserError(f"{path} holds a tensor named {name!r}, which a terminal cannot show")
    return state


def _read_safetensors(path: Path, size: int, header: int) -> ForeignState:
    from safetensors import SafetensorError, safe_open

    if header > min(size, _HEADER_BYTES):
        raise UserError(f"{path} is damaged: its header claims {header:,} bytes")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not iterable itself)
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    return ForeignState(tensors, in_order=False)


def _refuse_bombs(path: Path, size: int) -> None:
    """Refuse an archive that unpacks to more than it weighs; torch packs without compression."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if unpacked > size:
        raise UserError(f"{path} unpacks from {size:,} to {unpacked:,} bytes, which no file of torch.save does")


def _read_elsewhere(path: Path, size: int) -> ForeignState:
    """Let a process of its own read the file and hand the tensors over as safetensors."""
    with tempfile.TemporaryDirectory() as folder:
        handed_over = Path(folder) / "tensors"
        command = [sys.executable, "-m", __name__, str(path.absolute()), str(handed_over), str(4 * size + _SPARE_BYTES)]
        found_here = os.pathsep.join(part for part in sys.path if part)
        try:
            done = subprocess.run(  # noqa: S603
                command,
                capture_output=True,
                text=True,
                timeout=3 * SECONDS,
                check=False,
                # Every thread of torch's would reserve memory that the bound counts.
                env={**os.environ, "PYTHONPATH": found_here, "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{path} took more than {3 * SECONDS} seconds to read, which no state dict does") from None
        if done.returncode == _REFUSED:
            raise UserError(f"{path} {done.stdout.strip()}")
        if done.returncode != 0 or not handed_over.is_file():
            raise UserError(
                f"{path} cannot be read: it is damaged, or takes more memory or time than a state dict does"
            )
        names = json.loads(done.stdout)
        from safetensors.torch import load

        # Read, not mapped: the file is gone when this function returns.
        tensors = load(handed_over.read_bytes())
    return ForeignState({name: tensors[name] for name in names}, in_order=True)


class _Refused(Exception):
    """The file is not what it should be; the message goes on after the file's name."""


def find_tensors(content: Any, under: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, `under` the keys that led here; its entries that are no tensors are left out."""
    if not isinstance(content, Mapping):
        where = f" under {'.'.join(under)!r}" if under else ""
        raise _Refused(f"holds no state dict{where}, but an object of type {type(content).__name__!r}")
    inner = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    if inner is not None:
        return find_tensors(content[inner], (*under, inner))
    tensors = _tensors_in(content)
    if tensors:
        return tensors
    holders = {str(key): value for key, value in content.items() if isinstance(value, Mapping) and _tensors_in(value)}
    if len(holders) == 1:
        (key,) = holders
        return find_tensors(holders[key], (*under, key))
    if holders:
        raise _Refused(f"holds several state dicts, and none under a usual name: {', '.join(map(repr, holders))}")
    keys = ", ".join(repr(str(key)) for key in list(content)[:8])
    raise _Refused(f"holds no tensors; its keys are {keys or 'none'}")


def _tensors_in(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _refusal(error: Exception, path: Path) -> str:
    """Torch's page on a pickle that it does not read, as the end of a sentence."""
    # torch raises the lack of memory as a plain error, which only its text tells from others
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "takes more memory than a state dict of its size does"
    if type(error).__name__ == "UnpicklingError":
        with contextlib.suppress(Exception):  # only zip archives, and a hostile one may fail in any way
            for name in torch.serialization.get_unsafe_globals_in_checkpoint(path):
                return f"is no plain state dict: it names {name!r}, code that nasdistill does not run"
        return "is a pickle of something else than a state dict of tensors, and pickles are not run"
    return f"is damaged: {(str(error) or type(error).__name__).splitlines()[0][:200]}"


def _bound(memory: int) -> None:
    """From here on this process gets so much more memory, in bytes, and `SECONDS` of processor time."""
    if sys.platform != "linux":
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    seconds = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _main(path: Path, out: Path, memory: int) -> int:
    from safetensors.torch import save_file

    _bound(memory)
    try:
        tensors = find_tensors(torch.load(path, map_location="cpu", weights_only=True))
        for name, tensor in tensors.items():
            if tensor.layout != torch.strided or tensor.is_quantized:
                raise _Refused(f"holds {name!r}, which is sparse or quantised")
        # Views of one storage become tensors of their own, which safetensors asks for.
        save_file(
            {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
            out,
        )
    except _Refused as refused:
        print(refused)
        return _REFUSED
    except Exception as error:  # a hostile file may fail in any way
        print(_refusal(error, path))
        return _REFUSED
    print(json.dumps(list(tensors)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
