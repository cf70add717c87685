"""Numbers in text that people typed, in ASCII digits.

`int` and `float` also take other scripts' digits, underscores and spaces, `str.isdigit` even what `int` refuses (`²`),
and `int` raises where there are thousands of digits.
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"[-+]?[0-9]{1,300}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def whole_number(text: str) -> int | None:
    """The whole number that `text` is, or None."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """The number that `text` is, or None; infinite where no float is as large."""
    return float(text) if _NUMBER.fullmatch(text) else None
