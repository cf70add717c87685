"""Numbers in text that people typed, in ASCII digits.

`int` and `float` also take other scripts' digits, underscores and spaces, `str.isdigit` even what `int` refuses (`²`),
and `int` raises where there are thousands of digits.
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"[-+]?[0-9]{1,300}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_QUANTITY = re.compile(r"(?P<number>[-+0-9.eE]+?) ?((?P<prefix>[kKMGT])(?P<binary>i)?)?B?")


def whole_number(text: str) -> int | None:
    """The whole number that `text` is, or None."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """The number that `text` is, or None; infinite where no float is as large."""
    return float(text) if _NUMBER.fullmatch(text) else None


def quantity(text: str) -> float | None:
    """The number that `300k`, `1.5M`, `512kB` or `1MiB` stands for, or None; `k` is a thousand and `Ki` 1024.

    Examples:
        >>> quantity("300k"), quantity("1.5 MB"), quantity("2KiB"), quantity("300q")
        (300000.0, 1500000.0, 2048.0, None)
    """
    match = _QUANTITY.fullmatch(text.strip())
    digits = match and number(match["number"])
    if match is None or digits is None:
        return None
    thousand = 1024 if match["binary"] else 1000
    return digits * float(thousand) ** (" kmgt".index(match["prefix"].lower()) if match["prefix"] else 0)
