"""Numbers and names as people read them, and how sure a share is."""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "\N{EN DASH}"
"""Stands where there is no such number."""


def whole(value: float | None) -> str:
    """`52334` as `52,334`."""
    return NONE if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """`6103552` as `6.1 M`."""
    if value is None:
        return NONE
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def size(bytes: float | None) -> str:
    """`702928` as `703 kB`."""
    return NONE if bytes is None else f"{short(bytes)}B" if bytes >= 1e3 else f"{bytes:.0f} B"


def some(items: Sequence[str], most: int = 5) -> str:
    """The first `most` of a list, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def printable(text: str) -> str:
    """A name that somebody else chose, for a terminal, which some characters make do things."""
    return text if text.isprintable() else ascii(text)


def duration(seconds: float | None) -> str:
    """`252.3` as `4 min 12 s`."""
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def share_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` things drawn at random (Wilson 1927), both ends in [0, 1].

    With z = 1.96: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
    """
    z2 = 1.959964**2 / count
    middle, half = share + z2 / 2, math.sqrt(z2 * (share * (1 - share) + z2 / 4))
    return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))
