"""Components: everything that a recipe can name, by kind and name, from this package or from plugins."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from nasdistill.component import Component as Component
from nasdistill.errors import SpecError, UnknownName, UserError, unknown
from nasdistill.sources import Sources, read_sources
from nasdistill.validation import build as build
from nasdistill.versions import Origin as Origin
from nasdistill.versions import origin_of

log = logging.getLogger(__name__)

# Each kind lives in one package: its `__init__` holds the base class and the registry, its modules one component each.
# The packages import no torch, so that names and help are quick; the modules may, but those that the quick start names
# import it, and what computes with it, where they use it: what is cached is found without the seconds that it takes.
KINDS = {
    "stages": "nasdistill.stages",
    "models": "nasdistill.models.base",
    "operations": "nasdistill.models.operations",
    "datasets": "nasdistill.data.base",
    "augmentations": "nasdistill.data.augmentations",
    "spaces": "nasdistill.search.spaces",
    "strategies": "nasdistill.search.strategies",
    "samplers": "nasdistill.search.samplers",
    "edges": "nasdistill.search.edges",
    "regularisers": "nasdistill.search.regularisers",
    "selections": "nasdistill.search.selections",
    "proxies": "nasdistill.search.proxies",
    "growth-methods": "nasdistill.growth.methods",
    "criteria": "nasdistill.growth.criteria",
    "objectives": "nasdistill.distill.objectives",
    "divergences": "nasdistill.distill.divergences",
    "generators": "nasdistill.zero_shot.generators",
    "generator-losses": "nasdistill.zero_shot.generator_losses",
    "optimizers": "nasdistill.training.optimizers",
    "schedules": "nasdistill.training.schedules",
    "loggers": "nasdistill.training.loggers",
    "exporters": "nasdistill.models.exporters",
    "sections": "nasdistill.report.sections",
}
_IRREGULAR = {
    "strategies": "strategy",
    "proxies": "proxy",
    "criteria": "criterion",
    "generator-losses": "generator-loss",
}


C = TypeVar("C", bound=Component)


@dataclass
class Plugins:
    """Plugins that failed to load, and why."""

    broken: dict[str, str] = field(default_factory=dict)


plugins = Plugins()
_registries: dict[str, Registry[Any]] = {}


class Registry(Generic[C]):
    """Components of one kind by name.

    Built-in components are found in the sources of `package`: the module that registers a name is imported alone, and
    none where names are listed, but those that compute theirs. Shorthands and a plugin's package need all modules.
    Installed packages add theirs through the entry-point group `nasdistill.<kind>`; only the one asked for is imported.
    A plugin that makes a registry adds a kind; an installed one names the kind and the module that makes it in the
    entry-point group `nasdistill.kinds`.
    """

    def __init__(self, kind: str, base: type[C], package: str) -> None:
        self.kind = kind
        self.base = base
        self.package = package
        self.group = "nasdistill." + kind.replace("-", "_")
        self._components: dict[str, type[C]] = {}
        self._entry_points: dict[str, importlib.metadata.EntryPoint] | None = None
        self._builtin_loaded = False
        KINDS.setdefault(kind, package)
        _registries[kind] = self

    @property
    def singular(self) -> str:
        return _singular(self.kind).replace("-", " ")

    def _a(self) -> str:
        return f"{'an' if self.singular[0] in 'aeiou' else 'a'} {self.singular}"

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """Class decorator that adds a component under `name`.

        Raises:
            UserError: the name is taken, or the class is not of this kind or has a method that takes other arguments.
        """

        def add(component: type[C]) -> type[C]:
            self._add(name, component)
            return component

        return add

    def _add(self, name: str, component: type[C]) -> None:
        if not (isinstance(component, type) and issubclass(component, self.base)):
            raise UserError(f"{self.singular} {name!r} must be a subclass of {self.base.__name__}, got {component!r}")
        taken = self._components.get(name)
        if taken is component:
            return
        if taken is not None and _path(taken) == _path(component):
            log.info("the %s %r is defined anew", self.singular, name)
        elif taken is not None or (not self._is_builtin(component) and name in self._builtin_names()):
            raise UserError(
                f"the {self.singular} name {name!r} is taken by {_path(taken) if taken else self.package}; "
                f"register {_path(component)} under another name"
            )
        if not self._is_builtin(component):
            _refuse_other_arguments(component, self.base)
        component.registered_kind = self.kind
        component.registered_name = name
        self._components[name] = component

    def _is_builtin(self, component: type[C]) -> bool:
        return component.__module__.startswith("nasdistill.")

    def _builtin_names(self) -> set[str]:
        for module in self.sources.computing:
            importlib.import_module(f"{self.package}.{module}")
        if not self._is_own:
            self._load_builtin()
        return {*self.sources.written, *(name for name, made in self._components.items() if self._is_builtin(made))}

    @property
    def _is_own(self) -> bool:
        return self.package.startswith("nasdistill.")

    @functools.cached_property
    def sources(self) -> Sources:
        """What the modules of `package` register, without importing them; nothing of a plugin's package."""
        if not self._is_own:
            return Sources({}, ())
        return read_sources(Path(importlib.import_module(self.package).__path__[0]))

    def _load_module_of(self, name: str) -> None:
        """Import the module whose source registers `name`, if there is one."""
        if not self._builtin_loaded and name not in self._components and name in self.sources.written:
            importlib.import_module(f"{self.package}.{self.sources.written[name].module}")

    def _load_builtin(self) -> None:
        if self._builtin_loaded:
            return
        self._builtin_loaded = True  # before the imports: a module may itself ask this registry
        try:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{self.package}."):
                importlib.import_module(module.name)
        except BaseException:
            self._builtin_loaded = False
            raise

    def _installed(self) -> dict[str, importlib.metadata.EntryPoint]:
        if self._entry_points is None:
            self._entry_points = {}
            taken = dict.fromkeys(self._builtin_names(), self.package)
            for point in importlib.metadata.entry_points(group=self.group):
                if point.name in taken:
                    left_out(point.value, f"the {self.singular} name {point.name!r} is taken by {taken[point.name]}")
                else:
                    taken[point.name] = point.value
                    self._entry_points[point.name] = point
        return self._entry_points

    def _load_installed(self, name: str) -> None:
        point = self._installed()[name]
        try:
            with nothing_left_behind():
                self._add(name, point.load())
        except (Exception, SystemExit) as error:  # a plugin may fail in any way, and must not take the rest down
            why = left_out(point.value, f"{type(error).__name__}: {error}")
            raise SpecError(
                f"the plugin {point.dist.name if point.dist else point.module!r} offers {self.singular} {name!r} "
                f"but does not load ({why})"
            ) from error

    def names(self) -> list[str]:
        """All known names, those of installed plugins included, without importing what they name."""
        return sorted({*self._builtin_names(), *self._components, *self._installed()})

    def loaded(self) -> list[str]:
        """Those names whose code is imported: the built-in ones, and those of plugins that were asked for."""
        self._load_builtin()
        return sorted(self._components)

    def get(self, name: str) -> type[C]:
        """The component class called `name`.

        Raises:
            SpecError: nothing of that name is known, or the plugin that offers it is broken.
        """
        self._load_module_of(name)
        if name not in self._components and name in self._installed():
            self._load_installed(name)
        if name not in self._components:
            failed = "".join(f"; the plugin {path!r} did not load ({why})" for path, why in plugins.broken.items())
            raise UnknownName(unknown(self.singular, name, self.names()) + failed)
        return self._components[name]

    def recognises(self, text: str) -> bool:
        """Whether `text` is a name or a shorthand of this kind, be its options right or wrong."""
        return text in self.names() or self._from_shorthand(text) is not None

    def origin(self, name: str) -> Origin:
        return origin_of(self.get(name))

    def parse(self, value: Any) -> C:
        """A component from a name, a shorthand, or a mapping with `name` and options.

        Raises:
            SpecError: with the path to the wrong value.
        """
        if isinstance(value, self.base):
            return value
        if not isinstance(value, str | Mapping):
            raise SpecError(f"{self._a()} is a name or a mapping with a name and options, got {value!r}")
        options = {"name": value} if isinstance(value, str) else dict(value)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise SpecError(f"{self._a()} needs a name (known: {', '.join(self.names())})", ("name",))
        try:
            component = self.get(name)
        except SpecError as error:
            shorthand = self._from_shorthand(name)
            if shorthand is None:
                raise error.at(*(() if isinstance(value, str) else ("name",))) from None
            component, implied = shorthand
            options = {**implied, **options}
        return build(component, options)

    def _from_shorthand(self, text: str) -> tuple[type[C], dict[str, Any]] | None:
        self._load_builtin()
        for component in self._components.values():
            options = component.parse_shorthand(text)
            if options is not None:
                return component, options
        return None


class ComponentOf:
    """Annotation of a config field that holds a component of a kind: `Annotated[Any, ComponentOf("objectives")]`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: registry(self.kind).parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda component: component.spec()),
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"x-component": self.kind}


def kinds() -> list[str]:
    """All kinds, those of installed plugins included (without importing them)."""
    for point in importlib.metadata.entry_points(group="nasdistill.kinds"):
        KINDS.setdefault(point.name, point.module)
    return list(KINDS)


def registry(kind: str) -> Registry[Any]:
    """The registry of `kind`.

    Raises:
        UserError: there is no such kind, or the plugin that offers it is broken.
    """
    if kind not in KINDS:
        kind = next((known for known in kinds() if kind in (known, _singular(known))), kind)
    if kind not in KINDS:
        raise UserError(unknown("kind", kind, KINDS))
    if kind not in _registries:
        _load_kind(kind)
    return _registries[kind]


def _load_kind(kind: str) -> None:
    module = KINDS[kind]
    try:
        with nothing_left_behind():
            importlib.import_module(module)
            if kind not in _registries:
                raise UserError(f"it makes no registry of {kind}")
    except (Exception, SystemExit) as error:  # a plugin may fail in any way, and must not take the rest down
        if module.startswith("nasdistill."):
            raise
        why = left_out(module, f"{type(error).__name__}: {error}")
        raise UserError(f"the plugin {module!r} offers the kind {kind!r} but does not load ({why})") from error


def _singular(kind: str) -> str:
    return _IRREGULAR.get(kind) or kind.removesuffix("s")


def loaded() -> list[type[Component]]:
    """The components of all kinds whose code is imported."""
    return [component for each in _registries.values() for component in each._components.values()]


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """If this block fails, what it registered is forgotten; built-in components that it happened to load stay."""
    before = {kind: dict(each._components) for kind, each in _registries.items()}
    try:
        yield
    except BaseException:
        for kind, each in list(_registries.items()):
            known = before.get(kind, {})
            builtin = {name: made for name, made in each._components.items() if each._is_builtin(made)}
            each._components = {**builtin, **known}
            if kind not in before and each.base.__module__.partition(".")[0] != "nasdistill":
                del _registries[kind]
                KINDS.pop(kind, None)
        raise


def left_out(plugin: str, why: str) -> str:
    """Warn once why a plugin is left out, and remember it for where it is missed."""
    if plugins.broken.get(plugin) != why:
        log.warning("the plugin %s is left out: %s", plugin, why)
    plugins.broken[plugin] = why
    return why


def _refuse_other_arguments(component: type[Component], base: type[Component]) -> None:
    """Refuse a plug-in with a method that cannot be called as its base's is: it would end a training half-way."""
    for name in sorted(set(dir(base)) - set(dir(BaseModel))):
        ours, theirs = (inspect.getattr_static(each, name) for each in (base, component))
        if ours is theirs or not (inspect.isfunction(ours) and inspect.isfunction(theirs)):
            continue
        wanted, given = inspect.signature(ours), inspect.signature(theirs)
        named = {each.name for each in wanted.parameters.values() if each.kind is each.KEYWORD_ONLY}
        try:
            given.bind(*(wanted.parameters.keys() - named), **dict.fromkeys(named))
        except TypeError:
            raise UserError(
                f"line {theirs.__code__.co_firstlineno}: {component.__name__}.{name}{_arguments(given)} is called as "
                f"{base.__name__}.{name}{_arguments(wanted)} is"
            ) from None


def _arguments(signature: inspect.Signature) -> str:
    empty = inspect.Signature.empty
    plain = [each.replace(annotation=empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=empty))


def _path(component: type[Component]) -> str:
    return f"{component.__module__}.{component.__qualname__}"
