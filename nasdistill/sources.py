"""What a package's modules register, read in their sources: for that none is imported, nor what it would import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_REGISTERED = re.compile(r'\.register\(\s*"([^"]+)"\s*\)\n(?:class [^"]*"""(.*?)(?:"""|$))?', re.MULTILINE)
_COMPUTED = re.compile(r'\.register\((?!\s*")')
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


class Sources(NamedTuple):
    """What the modules of a folder register.

    Attributes:
        written: the components whose names stand there as text, by name.
        computing: the modules that compute names.
    """

    written: dict[str, Registered]
    computing: tuple[str, ...]


def read_sources(folder: Path) -> Sources:
    """The components that modules in `folder` register."""
    written: dict[str, Registered] = {}
    computing = []
    for file in sorted(folder.glob("*.py")):
        text = file.read_text("utf-8")
        command = _COMMAND.search(text)
        for name, about in _REGISTERED.findall(text):
            written[name] = Registered(file.stem, about, command[1] if command else name)
        if _COMPUTED.search(text):
            computing.append(file.stem)
    return Sources(written, tuple(computing))


def first_line_of(file: Path, function: str) -> str:
    """The first line of a function's docstring."""
    found = re.search(rf'^def {function}\(.*?"""(.*?)(?:"""|$)', file.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{function} has no docstring in {file}"
    return found[1]
