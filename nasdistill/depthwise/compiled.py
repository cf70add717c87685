"""The compiled gradient to the weights: built by the C compiler of this machine when it is first needed, and kept."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("weight_gradient.c")
FLAGS = ("-std=c11", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC")
"""No -ffast-math: its start-up code would turn off denormal numbers in the whole process."""
LEVELS = {"AVX512": "-march=x86-64-v4", "AVX2": "-march=x86-64-v3"}
"""Flags by what torch has found the processor capable of; others get what all processors of their kind can do."""
KERNELS = (3, 5, 7)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("images", "channels", "height", "width")),
        *((name, ctypes.c_int64) for name in ("image", "channel", "row", "column")),
        ("bfloat16", ctypes.c_int64),
    )

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Tensor:
        return cls(tensor.data_ptr(), *tensor.shape, *tensor.stride(), tensor.dtype == torch.bfloat16)


def weight_gradient(
    inputs: torch.Tensor, outputs: torch.Tensor, kernel: int, stride: int, padding: int, dilation: int
) -> torch.Tensor:
    """The gradient of a depthwise convolution to its weights, float32 [C, 1, kernel, kernel]; `is_compiled` must hold.

    The same bits with any number of threads.

    Args:
        inputs: what it read, float32 or bfloat16 [N, C, H, W] on the CPU, with any strides.
        outputs: the gradient to what it made, [N, C, H', W'].
        kernel: one of `KERNELS`; it, the others too, in both dimensions.

    Raises:
        MemoryError: there is none for a few rows of the images.
    """
    function = _function()
    assert function is not None
    gradient = torch.empty(inputs.shape[1], 1, kernel, kernel)
    failed = function(
        ctypes.c_void_p(gradient.data_ptr()),
        ctypes.byref(_Tensor.of(inputs)),
        ctypes.byref(_Tensor.of(outputs)),
        *(ctypes.c_int64(number) for number in (kernel, stride, padding, dilation)),
        ctypes.c_int(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError("no memory for the gradient of a depthwise convolution")
    return gradient


def is_compiled() -> bool:
    """Whether `weight_gradient` can be used here; the first call compiles it, in about a second."""
    return _function() is not None


@functools.cache
def _function() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(str(_library())).depthwise_weight_gradient
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("depthwise convolutions train by torch's own kernels, as ours cannot be compiled here: %s", error)
        return None


def _library() -> Path:
    """The compiled file, kept by what it was made from, so that machines of different kinds may share a home.

    Raises:
        OSError, subprocess.SubprocessError: there is no compiler, or it fails.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [*filter(None, map(shutil.which, ("cc", "gcc", "clang")))][:1]
    if not compiler:
        raise FileNotFoundError("there is no C compiler")
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability())
    command = (*compiler, *FLAGS, *([level] if level else []))
    made_from = hashlib.sha256(SOURCE.read_bytes() + "\0".join((*command, platform.machine())).encode()).hexdigest()
    library = _folder() / f"depthwise-{made_from[:16]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as draft:
            made = Path(draft, library.name)
            subprocess.run((*command, str(SOURCE), "-o", str(made)), check=True, capture_output=True, timeout=120)  # noqa: S603
            made.replace(library)
    return library


def _folder() -> Path:
    """The user's cache; a new temporary folder where it cannot be written."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()) / "nasdistill"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # nobody knows the user's home, or it is read-only
        pass
    return Path(tempfile.mkdtemp(prefix="nasdistill-"))
