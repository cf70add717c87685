"""Standard output and error as they may be: closed, a pipe that nobody reads, of few characters, a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys

LONGEST = 2000
"""Characters of a message; what stands in its middle says the least."""
LONGEST_WORD = 400
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def prepare() -> None:
    """Make both usable; called before anything is opened or printed.

    A closed one would hand its number to the next file that is opened, and print into that.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for names that are no text, and locales of few characters


def abandon_output() -> None:
    """Nobody reads standard output any more: what is left in it goes nowhere, in silence."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def tell(message: str) -> None:
    """Print a message on standard error; where that is gone, work goes on without."""
    with contextlib.suppress(OSError, ValueError):
        print(abridged(inert(message)), file=sys.stderr, flush=True)


def inert(text: str) -> str:
    """Text that only shows: a terminal would obey its control characters, and turn what follows some others around.

    Examples:
        >>> inert("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def abridged(text: str) -> str:
    """A message without the middle of what is too long to read: of words, and of the whole."""
    text = _LONG_WORD.sub(lambda found: _cut(found[0], LONGEST_WORD), text)
    return text if len(text) <= LONGEST else _cut(text, LONGEST)


def _cut(text: str, most: int) -> str:
    kept = most // 2 - 20
    return f"{text[:kept]}... ({len(text) - 2 * kept:,} more characters) ...{text[-kept:]}"
