"""What this processor can do."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def processor(attribute: str) -> str:
    """What Linux says of the first processor, e.g. its `model name`; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(attribute)), "")


@functools.cache
def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself; where it does not, bf16 is emulated and slower than fp32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor("flags").split())
