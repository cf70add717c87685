"""What is written in C: built by the C compiler of this machine when it is first needed, and kept."""

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

from nasdistill.paths import user_cache

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SOURCES = tuple(HERE / f"{name}.c" for name in ("weight_gradient", "separable", "normalised"))
READ = (*SOURCES, *(HERE / f"{name}.h" for name in ("image", "vectors")))
FLAGS = ("-std=c11", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC")
"""No -ffast-math: its start-up code would turn off denormal numbers in the whole process."""
LEVELS = {"AVX512": "-march=x86-64-v4", "AVX2": "-march=x86-64-v3"}
"""Flags by what torch has found the processor capable of; others get what all processors of their kind can do."""


def is_compiled() -> bool:
    """Whether there is a library; the first call compiles it, in some seconds."""
    return library() is not None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The functions of the C files of this folder, or None where they cannot be compiled."""
    try:
        return ctypes.CDLL(str(_file()))
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("depthwise convolutions train by torch's own kernels, as ours cannot be compiled here: %s", error)
        return None


def _file() -> Path:
    """The compiled file, kept by what it was made from, so that machines of different kinds may share a home.

    Raises:
        OSError, subprocess.SubprocessError: there is no compiler, or it fails.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [*filter(None, map(shutil.which, ("cc", "gcc", "clang")))][:1]
    if not compiler:
        raise FileNotFoundError("there is no C compiler")
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability())
    command = (*compiler, *FLAGS, *([level] if level else []))
    made_from = hashlib.sha256("\0".join((*command, platform.machine())).encode())
    for file in READ:
        made_from.update(file.read_bytes())
    made = user_cache() / f"depthwise-{made_from.hexdigest()[:16]}.so"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            draft = Path(folder, made.name)
            command = (*command, *map(str, SOURCES), "-o", str(draft))
            subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603
            draft.replace(made)
    return made
