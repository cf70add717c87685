"""Whether the code that a recipe brings may run: none of it does before somebody said yes to these very files."""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasdistill.errors import UserError
from nasdistill.plugins import load_plugin, require, source_of
from nasdistill.recipes.schema import file_or_module
from nasdistill.recipes.source import Key, Source
from nasdistill.words import printable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Code:
    """A plug-in that a recipe names.

    Attributes:
        plugin: as it is loaded: the path of a file, or a module's name.
        where: the recipe's file and line.
        sha256: of its source and of all that it imports, but for installed packages.
        files: those that the hash is of.
    """

    plugin: str
    where: str
    sha256: str
    files: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where its file lies, links followed; a module goes by its name."""
        return _place(self.plugin)

    def __str__(self) -> str:
        beside = [file for file in self.files if os.path.realpath(file) != self.place]
        return ", with ".join(map(printable, [self.plugin, *beside]))


class Verdict(enum.Enum):
    """What is done with code that nobody said yes to."""

    RUN = enum.auto()
    """Yes: now, and whenever a recipe brings the same."""
    REFUSE = enum.auto()
    """No, so that the recipe is refused."""
    PASS_OVER = enum.auto()
    """It is not looked at: all else is checked, and nothing can run."""


Trust = Callable[[Sequence[Code]], Verdict]


def run_all(_codes: Sequence[Code]) -> Verdict:
    return Verdict.RUN


def refuse(_codes: Sequence[Code]) -> Verdict:
    return Verdict.REFUSE


def pass_over(_codes: Sequence[Code]) -> Verdict:
    return Verdict.PASS_OVER


def load_trusted(source: Source, folder: Path | None, given: Iterable[str], trust: Trust) -> tuple[Code, ...]:
    """Load the plug-ins of a recipe that may run.

    What was typed is a yes by itself: `--plugin`, an override of `plugins`, or what a program passes.

    Args:
        folder: that of the recipe's file, below which its plug-ins lie; None where a program made the recipe.
        given: the plug-ins of the command line.

    Returns:
        what was passed over.

    Raises:
        RecipeError: a plug-in is not there, lies elsewhere, or nobody said yes to it.
    """
    typed = {_place(plugin) for plugin in given}
    remembered = _remembered()
    codes = {key: Code(plugin, source.where(key), *source_of(plugin)) for key, plugin in _named(source)}
    unknown: dict[Key, Code] = {}
    for key, code in codes.items():
        if folder is None or source.is_override(key) or code.place in typed or code.sha256 in remembered:
            continue
        if code.plugin.endswith(".py") and not Path(code.place).is_relative_to(os.path.realpath(folder)):
            beyond = f"{printable(code.plugin)} lies outside {printable(str(folder))}, the recipe's folder"
            raise source.error(key, f"{beyond}; if it shall run, name it yourself: --plugin {printable(code.place)}")
        unknown[key] = code
    verdict = trust(list(unknown.values())) if unknown else Verdict.RUN
    if verdict is Verdict.REFUSE:
        key, code = next(iter(unknown.items()))
        raise source.error(key, f"{code} is code, which could do whatever you can; read it, then say yes with --trust")
    passed_over = tuple(unknown.values()) if verdict is Verdict.PASS_OVER else ()
    for code in codes.values():
        if code not in passed_over:
            if code.sha256 not in remembered:
                _remember(code)
            load_plugin(code.plugin)
    return passed_over


def _named(source: Source) -> Iterator[tuple[Key, str]]:
    """The plug-ins of a recipe as they are loaded, with their places; what is none is told when all is checked."""
    named = source.data.get("plugins") if isinstance(source.data, dict) else None
    for index, written in enumerate(named if isinstance(named, list) else ()):
        if isinstance(written, str):
            key = ("plugins", index)
            try:
                plugin = str(file_or_module(written))
                require(plugin)
            except UserError as error:
                raise source.error(key, str(error)) from None
            yield key, plugin


def _place(plugin: str) -> str:
    return os.path.realpath(plugin) if plugin.endswith(".py") else plugin


_said: set[str] = set()
"""What this process was told yes to and could not write down."""


def _file() -> Path:
    """Where a user's yeses are kept, a line each: the hash and what it is of. To take one back, remove its line."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path("~/.local/state").expanduser()
    return folder / "nasdistill" / "trusted"


def _remembered() -> set[str]:
    try:
        lines = _file().read_text("utf-8", "replace").splitlines()
    except (OSError, RuntimeError):  # none yet, or nobody knows the user's home
        return set(_said)
    return {line.split()[0] for line in lines if line.strip()} | _said


def _remember(code: Code) -> None:
    try:
        file = _file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8") as kept:
            kept.write(f"{code.sha256} {printable(code.place)}\n")
    except (OSError, RuntimeError) as error:
        _said.add(code.sha256)
        log.warning("the yes to %s is not remembered beyond this command: %s", printable(code.plugin), error)
