"""Random numbers as a pure function of where they are used, so that no generator's state has to be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from what identifies a use, e.g. `(seed, "augmentation", epoch, batch)`.

    SHA-256 keeps neighbouring parts unrelated, which `seed + epoch` does not: there, epoch 1 of seed 0 repeats epoch 0
    of seed 1.
    """
    digest = hashlib.sha256("/".join(map(repr, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A generator on the CPU, seeded with `derived_seed(*parts)`."""
    return torch.Generator().manual_seed(derived_seed(*parts))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[int]:
    """In this block torch's global generators start from `seed`, which is given back; after it they go on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield seed
