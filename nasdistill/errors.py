"""Errors that a user can act on, each in one sentence."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_SEPARATOR = re.compile("[-:]")
"""What follows it in a shorthand, such as `wrn-40-2`, are options."""


class UserError(Exception):
    """A mistake of the user; the command line prints it without a traceback and exits with status 2."""


class SpecError(UserError, ValueError):
    """A value in a config is wrong.

    `path` leads from the config to the wrong value, e.g. `("objectives", 0, "temperature")`, so that whoever knows the
    file can add its line. It is a `ValueError` so that pydantic carries it through nested validation.
    """

    def __init__(self, problem: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def at(self, *path: str | int, before: str = "") -> SpecError:
        """The same, seen from a config that holds the wrong one at `path`."""
        return type(self)(before + self.problem, (*path, *self.path))


class UnknownName(SpecError):
    """A name that nothing here goes by; a plug-in might bring what does."""


@contextmanager
def found_at(*path: str | int, by: str = "") -> Iterator[None]:
    """Errors of the user in this block are about the value at `path`.

    Args:
        by: who found them, to stand before the sentence.
    """
    before = f"{by}: " if by else ""
    try:
        yield
    except SpecError as error:
        raise error.at(*path, before=before) from None
    except UserError as error:
        raise SpecError(before + str(error), path) from None


class DamagedFile(UserError):
    """A file on disk is not what was written there."""


class Interrupted(Exception):
    """The user or the system asked this process to stop; everything up to here is saved.

    Args:
        signal_number: the signal that asked, e.g. 2 for Ctrl-C; the exit status is 128 plus it.
        where: what was running, in words.
    """

    def __init__(self, signal_number: int, where: str = "") -> None:
        super().__init__(f"stopped by signal {signal_number}" + (f" in {where}" if where else ""))
        self.signal_number = signal_number
        self.where = where


class ProcessLost(Exception):
    """Another of the processes that compute together is gone, so that this one cannot go on; one sentence."""


def written_at(component: Any) -> str:
    """Where a class or a function is written, for errors about a plug-in's code: its file and line."""
    component = inspect.unwrap(component)
    try:
        return f"{inspect.getsourcefile(component)}, line {inspect.getsourcelines(component)[1]}"
    except (OSError, TypeError):  # typed into an interpreter
        return f"{component.__module__}.{component.__qualname__}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name closest to `word`, or None where nothing is close."""
    lowered = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else None


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name: what was allowed and what was probably meant."""
    names = sorted(known)
    guess = nearest(word, names) or nearest(_SEPARATOR.split(word)[0], names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return f"unknown {what} {word!r}{hint} (known: {', '.join(names) or 'none'})"
