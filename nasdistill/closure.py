"""What a class computes with: the source of its module and of all that this one imports, found without running any."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PLUGIN_FOLDER = "nasdistill_plugins_"
"""How the packages begin that stand for folders with plugin files, see `nasdistill.plugins`."""
_ROOT = Path(__file__).parent


@dataclass(frozen=True)
class _Module:
    loaded: tuple[object, object] | None
    sha256: str
    imports: frozenset[str]


_sources: dict[str, _Module] = {}


def closure(modules: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of the source of `modules` and of all that they import, by module.

    Imports inside functions count, those for type checkers do not. What is followed is this package, and from a
    plugin also all that is neither in the standard library nor installed beside other packages. This package's own
    `__init__` stays out: it holds the version and names for users.
    """
    modules = list(modules)
    own = {name for module in modules for name in _of_one_distribution(_top(module))}
    places: dict[str, _Place] = {}
    names_in = functools.cache(_names_in)
    found: dict[str, str] = {}
    todo, seen = list(modules), set(modules)
    while todo:
        name = todo.pop()
        top = _top(name)
        if top not in places:
            places[top] = _place(top, top in own)
        path = places[top].file_of(name, names_in)
        if path is None:
            continue
        source = _source(name, path)
        found[name] = source.sha256
        follow = source.imports - seen
        seen |= follow
        todo += follow
    return found


def file_of(module: str) -> str | None:
    """The file of a module, unless it belongs to the standard library or is installed beside other packages."""
    return _place(_top(module), own=False).file_of(module, _names_in)


def edited(package: str) -> bool:
    """Whether a file below `package` is no longer what was loaded from it."""
    loaded = [module for name, module in sys.modules.items() if name.startswith(f"{package}.")]
    files = {module.__file__ or "" for module in loaded} & _sources.keys()
    return any(hashlib.sha256(_bytes(path)).hexdigest() != _sources[path].sha256 for path in files)


def digest(found: dict[str, str]) -> str:
    """One SHA-256 over a closure, the same wherever the folder of a plugin lies."""
    named = sorted((name.partition(".")[2] if name.startswith(PLUGIN_FOLDER) else name, found[name]) for name in found)
    return "sha256:" + hashlib.sha256(json.dumps(named).encode()).hexdigest()


@functools.cache
def distribution_of(top: str) -> importlib.metadata.Distribution | None:
    """The installed distribution whose plugins lie in the package `top`."""
    for group in importlib.metadata.entry_points().groups:
        if group.startswith("nasdistill."):
            for point in importlib.metadata.entry_points(group=group):
                if _top(point.module) == top:
                    return point.dist
    return None


def _of_one_distribution(top: str) -> set[str]:
    """The packages and modules that came with `top`."""
    distribution = None if top == "nasdistill" else distribution_of(top)
    files = (distribution.files or []) if distribution else []
    return {top, *(file.parts[0].removesuffix(".py") for file in files)}


@dataclass(frozen=True)
class _Place:
    """Where a top-level module lies: its own file, and the folders of its submodules."""

    file: str | None = None
    folders: Sequence[str] = ()

    def file_of(self, name: str, names_in: Callable[[str], frozenset[str]]) -> str | None:
        *inner, last = name.split(".")
        if not inner:
            return self.file
        for folder in self.folders:
            beside = os.path.join(folder, *inner[1:])
            if last in names_in(beside) and "__init__.py" in names_in(os.path.join(beside, last)):
                return os.path.join(beside, last, "__init__.py")
            if f"{last}.py" in names_in(beside):
                return os.path.join(beside, f"{last}.py")
        return None


def _names_in(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _place(top: str, own: bool) -> _Place:
    if top == "nasdistill":
        return _Place(None, [str(_ROOT)])
    module = sys.modules.get(top)
    if top == "__main__":
        return _Place(_python_file(getattr(module, "__file__", None)))
    if top in sys.stdlib_module_names:
        return _Place()
    try:
        spec = module.__spec__ if module else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return _Place()
    if spec is None:
        return _Place()
    file, folders = _python_file(spec.origin), list(spec.submodule_search_locations or ())
    installed = any({"site-packages", "dist-packages"} & {*Path(path).parts} for path in [file, *folders] if path)
    return _Place(file, folders) if own or not installed else _Place()


def _python_file(path: str | None) -> str | None:
    return path if path and path.endswith(".py") and os.path.isfile(path) else None


def _source(name: str, path: str) -> _Module:
    """A module's source as it runs: once loaded, later edits of the file do not count until it is loaded anew."""
    module = sys.modules.get(name)
    loaded = None if module is None else (module, module.__spec__)
    before = _sources.get(path)
    if before and loaded and before.loaded and before.loaded[0] is loaded[0] and before.loaded[1] is loaded[1]:
        return before
    text = _bytes(path)
    sha256 = hashlib.sha256(text).hexdigest()
    if before and before.sha256 == sha256:
        imports = before.imports
    else:
        imports = _imports(text, name, os.path.basename(path) == "__init__.py")
    _sources[path] = _Module(loaded, sha256, imports)
    return _sources[path]


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # it is gone since it was loaded
        return b""


def _imports(text: bytes, name: str, is_package: bool) -> frozenset[str]:
    """What a module imports, with all packages on the way and with names in modules, which may be modules."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # it will not import either
        return frozenset()
    top, *_ = package = name.split(".") if is_package else name.split(".")[:-1] or [name]
    found: set[str] = set()
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    if top.startswith(PLUGIN_FOLDER):
        found.update([f"{top}.{each}" for each in found if may_lie_beside(each)])
    found = {parent for each in found for parent in _with_parents(each)}
    # of what this package imports its own modules are of interest alone: all else is installed
    return frozenset(each for each in found if top != "nasdistill" or each.startswith("nasdistill."))


def may_lie_beside(name: str) -> bool:
    """Whether a plugin may call a file of its own folder so: it hides neither the standard library nor this package."""
    return _top(name) not in {*sys.stdlib_module_names, "nasdistill"}


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements at any depth, but for those that only type checkers see."""
    todo = list(body)
    while todo:
        node = todo.pop()
        yield node
        for_checkers = isinstance(node, ast.If) and "TYPE_CHECKING" in {
            getattr(node.test, "id", ""),
            getattr(node.test, "attr", ""),
        }
        for part in ("orelse", "finalbody") if for_checkers else ("body", "orelse", "finalbody"):
            todo += getattr(node, part, ())
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            todo += part.body


def _top(name: str) -> str:
    return name.partition(".")[0]


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
