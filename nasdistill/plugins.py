"""Loading plugins that a recipe or the command line names: a file with the files beside it, or a module."""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from itertools import accumulate
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from nasdistill.closure import PLUGIN_FOLDER, closure, digest, edited, file_of, may_lie_beside
from nasdistill.errors import UserError
from nasdistill.registry import left_out, nothing_left_behind, plugins

log = logging.getLogger(__name__)


def load_plugin(plugin: str) -> None:
    """Import a plugin named in a recipe or on the command line: a `.py` file or a module.

    A file can import those beside it as a script can (`import helper`), and as a module of a package can
    (`from .helper import f`); other plugins do not see them. A file that was edited is loaded
    anew, with those beside it.

    A plugin that fails is named in a warning and remembered in `plugins.broken`; it leaves nothing registered and does
    not take the rest down.
    """
    before = set(sys.modules)
    try:
        with nothing_left_behind():
            name = _name_of(plugin)
            importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a plugin may fail in any way, and must not take the rest down
        left_out(plugin, f"{type(error).__name__}: {error}")
        return
    plugins.broken.pop(plugin, None)
    covered = closure([name])
    for unseen in sorted(set(sys.modules) - before - covered.keys() - {"__mp_main__"}):  # multiprocessing's __main__
        if not unseen.startswith("nasdistill.") and (file := file_of(unseen)):
            log.warning("the plugin %s loads %s by other means than import: its edits go unnoticed", plugin, file)


def require(plugin: str) -> None:
    """Make sure that a plugin is there, without running it, or a package that it lies in.

    Raises:
        UserError: there is no such file or module.
    """
    if plugin.endswith(".py"):
        if not Path(plugin).is_file():
            raise UserError(f"there is no file {plugin!r}")
    elif not all(part.isidentifier() for part in plugin.split(".")):
        raise UserError(f"a plugin is a Python file, with .py at its end, or the name of a module; got {plugin!r}")
    elif _spec_of(plugin) is None:
        raise UserError(f"there is no module {plugin!r}")


def _spec_of(module: str) -> ModuleSpec | None:
    """As `importlib.util.find_spec`, which imports the packages on the way."""
    folders: Sequence[str] | None = None
    name, spec = "", None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = (finder.find_spec(name, folders) for finder in sys.meta_path)
        spec = next((each for each in found if each is not None), None)
        if spec is None or (name != module and spec.submodule_search_locations is None):
            return None
        folders = spec.submodule_search_locations
    return spec


def source_of(plugin: str) -> tuple[str, tuple[str, ...]]:
    """What a plugin would run, without running it: one SHA-256 and the files, those of installed packages left out."""
    name = _name_of(plugin)
    on_the_way = accumulate(name.split("."), "{}.{}".format)  # a module's packages run before it
    found = {each: sha256 for each, sha256 in closure(on_the_way).items() if not each.startswith("nasdistill.")}
    files = [file for each in found if (file := file_of(each))]
    return digest({**found, "": Path(plugin).name}), tuple(files)


def files_of(path: Path) -> dict[str, Path]:
    """A plugin file and those that it imports from its folder, by their paths in it."""
    package = _package_of(path)
    files = [file_of(name) for name in closure([f"{package}.{path.stem}"]) if name.startswith(f"{package}.")]
    return {Path(file).relative_to(path.parent.resolve()).as_posix(): Path(file) for file in files if file}


def _package_of(path: Path) -> str:
    return PLUGIN_FOLDER + hashlib.sha256(str(path.resolve().parent).encode()).hexdigest()[:12]


def _name_of(plugin: str) -> str:
    """The module that a plugin is; the folder of a file becomes a package of its own."""
    if not plugin.endswith(".py"):
        return plugin
    path = Path(plugin).resolve()
    path.stat()  # raises an error that names the file
    package = _package_of(path)
    if edited(package):
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
            del sys.modules[name]  # the package as well: its attributes are the files that were loaded
    if package not in sys.modules:
        module = sys.modules[package] = ModuleType(package)
        module.__spec__ = ModuleSpec(package, None, is_package=True)
        module.__path__ = module.__spec__.submodule_search_locations = [str(path.parent)]
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    importlib.invalidate_caches()
    return f"{package}.{path.stem}"


class _Finder:
    """Finds the modules of plugins' folders as Python does, for `_Loader` to load."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name.startswith(PLUGIN_FOLDER) else None
        if spec and spec.origin and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    """Loads a file of a plugin's folder so that it finds its neighbours by their plain names."""

    def get_code(self, fullname: str) -> CodeType:
        """Compiled anew: Python's cache of compiled files takes two edits within a second for one."""
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": functools.partial(_import, package)}
        super().exec_module(module)


def _import(
    package: str,
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """`__import__` where a neighbour comes before an installed package, though never before the standard library."""
    neighbour = f"{package}.{name.partition('.')[0]}"
    if level == 0 and may_lie_beside(name):
        spec = getattr(sys.modules.get(neighbour), "__spec__", None) or importlib.util.find_spec(neighbour)
        if spec is not None and spec.origin is not None:  # a mere folder is no neighbour
            found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
            return found if fromlist else sys.modules[neighbour]
    return builtins.__import__(name, globals, locals, fromlist or (), level)
