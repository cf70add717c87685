"""What a package's modules register, read in their sources: for that none is imported, nor what it would import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_REGISTERED = re.compile(r'\.register\(\s*"([^"]+)"\s*\)\n(?:class [^"]*"""(.*?)(?:"""|$))?', re.MULTILINE)
_COMMAND = re.compile(r'^    command: ClassVar\[str\] = "(.+)"$', re.MULTILINE)


class Registered(NamedTuple):
    """A component as its source has it.

    Attributes:
        module: without the package.
        about: the first line of its docstring.
        command: what a stage is called on the command line; the name of anything else.
    """

    module: str
    about: str
    command: str


def registered(folder: Path) -> dict[str, Registered]:
    """The components that modules in `folder` register under names that stand there as text."""
    found: dict[str, Registered] = {}
    for file in folder.glob("*.py"):
        text = file.read_text("utf-8")
        command = _COMMAND.search(text)
        for name, about in _REGISTERED.findall(text):
            found[name] = Registered(file.stem, about, command[1] if command else name)
    return found


def first_line_of(file: Path, function: str) -> str:
    """The first line of a function's docstring."""
    found = re.search(rf'^def {function}\(.*?"""(.*?)(?:"""|$)', file.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{function} has no docstring in {file}"
    return found[1]
