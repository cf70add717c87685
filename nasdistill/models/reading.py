"""Reads the tensors of a file that somebody else wrote, without running anything that it names.

A safetensors file is plain data and is read here. A file of `torch.save` is a pickle, a program: torch's reader that
takes tensors alone does it, in a process of its own with bounds on memory and time (this module, run as a program).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasdistill.errors import UserError
from nasdistill.models.formats import SAVE_ALONE, format_of

SECONDS = 20
"""Processor time that reading may take; a file of 100 MB takes under one."""

_TORCH_TAKES = 32 << 30
"""Bytes of addresses that torch has before it reads anything, and more; for where nobody tells."""

_HEADER_BYTES = 16 * 2**20
_SPARE_BYTES = 256 * 2**20
_REFUSED = 3


@dataclass(frozen=True)
class ForeignTensors:
    """The tensors of a file, by the keys that lead to each, joined by dots.

    Attributes:
        shapes: of all, in the file's order.
        values: on the CPU; of those that can be weights.
        unusable: why the others cannot, as the end of a sentence.
        dicts: for each, the name of the dictionary that holds it, the keys before its own.
        in_order: whether they come in the order in which the modules were made.
    """

    shapes: dict[str, tuple[int, ...]]
    values: dict[str, torch.Tensor]
    unusable: dict[str, str]
    dicts: dict[str, str]
    in_order: bool


def read_tensors(path: Path, most_bytes: int) -> ForeignTensors:
    """The tensors in a safetensors file or a file of `torch.save`, but those of optimisers.

    Args:
        most_bytes: a larger file is refused unread.

    Raises:
        UserError: there is no such file, it is too large, damaged, or holds anything but tensors and plain data.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > most_bytes:
        raise UserError(
            f"{path} has {size:,} bytes, more than weights of this network and an optimiser's state could take "
            f"({most_bytes:,})"
        )
    found = _read_safetensors(path, size) if format_of(path) == "safetensors" else _read_elsewhere(path, size)
    for name in found.shapes:
        if not name.isprintable():
            raise UserError(f"{path} holds a tensor named {name!r}, which a terminal cannot show")
    return found


def _read_safetensors(path: Path, size: int) -> ForeignTensors:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > min(size, _HEADER_BYTES):
        raise UserError(f"{path} is damaged: its header claims {header:,} bytes")
    shapes: dict[str, tuple[int, ...]] = {}
    values: dict[str, torch.Tensor] = {}
    unusable: dict[str, str] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (not iterable itself)
                stored = file.get_slice(name)
                shapes[name] = tuple(stored.get_shape())
                try:
                    value = file.get_tensor(name)
                except (SafetensorError, KeyError, AttributeError):  # a type that this torch lacks
                    unusable[name] = f"is {stored.get_dtype()}, which torch has no numbers for"
                    continue
                why = _why_unusable(value)
                if why is None:
                    values[name] = value
                else:
                    unusable[name] = why
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    if not shapes:
        raise UserError(f"{path} holds no tensors")
    return ForeignTensors(shapes, values, unusable, dict.fromkeys(shapes, ""), in_order=False)


def _why_unusable(tensor: torch.Tensor) -> str | None:
    """Why a tensor cannot be one of a network's, as the end of a sentence; None if it can."""
    if tensor.is_quantized:
        return "is quantised"
    if tensor.layout != torch.strided:
        return f"is sparse ({tensor.layout})"
    if tensor.is_meta:
        return "has no values (it was saved on the device 'meta')"
    if tensor.is_complex():
        return f"is complex ({tensor.dtype})"
    try:
        tensor.flatten()[:1].double()
    except (RuntimeError, NotImplementedError):  # types that torch stores alone, such as float4_e2m1fn_x2
        return f"is {tensor.dtype}, which torch does not compute with"
    return None


def _read_elsewhere(path: Path, size: int) -> ForeignTensors:
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
        told = json.loads(done.stdout)
        from safetensors.torch import load

        # Read, not mapped: the file is gone when this function returns.
        handed = load(handed_over.read_bytes())
    shapes = {name: tuple(shape) for name, shape in told["shapes"].items()}
    values = {name: handed[name] for name in shapes if name in handed}
    return ForeignTensors(shapes, values, told["unusable"], told["dicts"], in_order=True)


class _Refused(Exception):
    """The file is not what it should be; the message goes on after the file's name."""


def tensors_in(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """The tensors in dictionaries and lists, with the keys that lead to them; those of optimisers are left out."""
    if isinstance(content, torch.Tensor):
        yield keys, content
        return
    items: Iterable[tuple[Any, Any]] = ()
    # `Optimizer.state_dict` makes a dictionary of these two, with up to three tensors for each weight.
    if isinstance(content, Mapping) and not {"state", "param_groups"} <= content.keys():
        items = content.items()
    elif isinstance(content, list | tuple):
        items = enumerate(content)
    for key, value in items:
        yield from tensors_in(value, (*keys, str(key)))


def by_name(content: Any) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors in a file's content, and the dictionaries that hold them, by name."""
    tensors: dict[str, torch.Tensor] = {}
    dicts: dict[str, str] = {}
    for keys, tensor in tensors_in(content):
        if not keys:
            raise _Refused("holds a single tensor, and no state dict")
        name = ".".join(keys)
        if name in tensors:
            raise _Refused(f"holds two tensors whose keys make the name {name!r}")
        tensors[name] = tensor.detach()
        dicts[name] = ".".join(keys[:-1])
    if not tensors and isinstance(content, Mapping):
        listed = ", ".join(repr(str(key)) for key in list(content)[:8])
        raise _Refused(f"holds no tensors of a network; its keys are {listed or 'none'}")
    if not tensors:
        raise _Refused(f"holds no state dict, but an object of type {type(content).__name__!r}")
    return tensors, dicts


def _refusal(error: Exception, path: Path) -> str:
    """Torch's page on a pickle that it does not read, as the end of a sentence."""
    # torch raises the lack of memory as a plain error, which only its text tells from others
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "takes more memory than a state dict of its size does"
    if type(error).__name__ == "UnpicklingError":
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
        with contextlib.suppress(Exception):  # only zip archives, and a hostile one may fail in any way
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path) or names
        if names:
            named = ", ".join(map(repr, names[:3]))
            return f"is no plain state dict: it names {named}, code that nasdistill does not run; {SAVE_ALONE}"
        return f"is a pickle of something else than a state dict of tensors, and pickles are not run; {SAVE_ALONE}"
    return f"is damaged: {(str(error) or type(error).__name__).splitlines()[0][:200]}"


def _bound(memory: int) -> None:
    """From here on this process gets so much more memory, in bytes, and `SECONDS` of processor time."""
    if sys.platform != "linux":
        return
    import resource

    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc
        taken = _TORCH_TAKES
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    seconds = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _main(path: Path, out: Path, memory: int) -> int:
    from safetensors.torch import save_file

    _bound(memory)
    try:
        tensors, dicts = by_name(torch.load(path, map_location="cpu", weights_only=True))
        why = {name: _why_unusable(tensor) for name, tensor in tensors.items()}
        # Views of one storage become tensors of their own, which safetensors asks for.
        values = {
            # safetensors reads fewer types of one byte than it writes
            name: tensor.float()
            if tensor.is_floating_point() and tensor.itemsize == 1
            else tensor.clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
            if why[name] is None
        }
        save_file(values, out)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    except _Refused as refused:
        print(refused)
        return _REFUSED
    except Exception as error:  # a hostile file may fail in any way
        print(_refusal(error, path))
        return _REFUSED
    unusable = {name: reason for name, reason in why.items() if reason is not None}
    print(json.dumps({"shapes": shapes, "unusable": unusable, "dicts": dicts}))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
