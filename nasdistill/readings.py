"""Measurements of the machine that may fail: in a container, say, or without a home. None of them ends any work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

_missed: set[str] = set()


def reading(what: str, read: Callable[[], T]) -> T | None:
    """What `read` finds; None where it raises anything, with one warning for all readings of `what`."""
    try:
        return read()
    except Exception as error:
        if what not in _missed:
            _missed.add(what)
            log.warning("%s cannot be measured here and is left out: %s: %s", what, type(error).__name__, error)
        return None
