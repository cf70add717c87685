"""Whether a network can be built, found before anything is done with it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nasdistill.models.base import NetworkSpec


@contextmanager
def tentatively() -> Iterator[None]:
    """What is built in this block shows neither in the log nor in the random numbers that are sampled after it."""
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.disable(logging.NOTSET)


def check_build(spec: NetworkSpec) -> None:
    """Build the network of a spec, with weights: for most, torch's meta device takes as long, and some break there.

    Raises:
        UserError: as `NetworkSpec.build`.
    """
    _check_build(spec.model_dump_json())


@functools.lru_cache(maxsize=1024)  # seeds and points of a sweep have the same networks
def _check_build(spec: str) -> None:
    with tentatively():
        NetworkSpec.model_validate_json(spec).build()
