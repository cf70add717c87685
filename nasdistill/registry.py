"""Components: everything that a recipe can name, by kind and name, from this package or from plugins."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from nasdistill.errors import SpecError, UserError, unknown

# Each kind lives in one package: its `__init__` holds the base class and the registry, its modules one component each.
# The packages import no torch, so that names and help are quick; the modules may.
KINDS = {
    "stages": "nasdistill.stages",
    "models": "nasdistill.models.base",
    "operations": "nasdistill.models.operations",
    "datasets": "nasdistill.data.base",
    "augmentations": "nasdistill.data.augmentations",
    "spaces": "nasdistill.search.spaces",
    "strategies": "nasdistill.search.strategies",
    "growth-methods": "nasdistill.growth.methods",
    "objectives": "nasdistill.distill.objectives",
    "optimizers": "nasdistill.training.optimizers",
    "schedules": "nasdistill.training.schedules",
    "exporters": "nasdistill.models.exporters",
}


class Component(BaseModel):
    """Anything registered: its fields are its options, its docstring says what it is.

    Subclasses set `source` to the paper, equation or code that they follow. A component is plain data until its
    kind's method is called, so it can be built from a recipe, hashed, and written to disk with `spec`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    registered_name: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        """The options that a shorthand such as `wrn-40-2` stands for, or None if `text` is none of this component's."""
        return None

    def spec(self) -> dict[str, Any]:
        """Plain data (JSON) from which this component is rebuilt: its name and its options."""
        return {"name": self.registered_name, **self.model_dump(mode="json")}


C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Origin:
    """Where a component comes from: `built-in`, a distribution with its version, or a file with its SHA-256."""

    name: str
    version: str


@dataclass
class Plugins:
    """What this process has loaded from outside, and what failed to load."""

    loaded: dict[str, Origin] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


plugins = Plugins()
_registries: dict[str, Registry[Any]] = {}


class Registry(Generic[C]):
    """Components of one kind by name.

    Built-in components are found in the modules of `package`, which are imported when a name is first asked for.
    Installed packages add theirs through the entry-point group `nasdistill.<kind>`; only the one asked for is imported.
    """

    def __init__(self, kind: str, base: type[C], package: str) -> None:
        self.kind = kind
        self.base = base
        self.package = package
        self.group = "nasdistill." + kind.replace("-", "_")
        self._components: dict[str, type[C]] = {}
        self._origins: dict[str, Origin] = {}
        self._entry_points: dict[str, importlib.metadata.EntryPoint] | None = None
        self._builtin_loaded = False
        _registries[kind] = self

    @property
    def singular(self) -> str:
        return "strategy" if self.kind == "strategies" else self.kind.removesuffix("s").replace("-", " ")

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """Class decorator that adds a component under `name`.

        Raises:
            UserError: the name is taken, or the class is not of this kind.
        """

        def add(component: type[C]) -> type[C]:
            self._add(name, component)
            return component

        return add

    def _add(self, name: str, component: type[C], origin: Origin | None = None) -> None:
        if not (isinstance(component, type) and issubclass(component, self.base)):
            raise UserError(f"{self.singular} {name!r} must be a subclass of {self.base.__name__}, got {component!r}")
        taken = self._components.get(name)
        if taken is component:
            return
        if taken is not None or (origin is None and not self._is_builtin(component) and name in self._builtin_names()):
            there = f"{taken.__module__}.{taken.__qualname__}" if taken else self.package
            raise UserError(
                f"the {self.singular} name {name!r} is taken by {there}; "
                f"register {component.__module__}.{component.__qualname__} under another name"
            )
        component.registered_name = name
        self._components[name] = component
        self._origins[name] = origin or _origin_of(component)

    def _is_builtin(self, component: type[C]) -> bool:
        return component.__module__.startswith("nasdistill.")

    def _builtin_names(self) -> set[str]:
        self._load_builtin()
        return set(self._components)

    def _load_builtin(self) -> None:
        if self._builtin_loaded:
            return
        self._builtin_loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")

    def _installed(self) -> dict[str, importlib.metadata.EntryPoint]:
        if self._entry_points is None:
            self._entry_points = {}
            for point in importlib.metadata.entry_points(group=self.group):
                other = self._entry_points.get(point.name)
                if other is not None:
                    plugins.broken[point.value] = f"{self.singular} {point.name!r} is also offered by {other.value}"
                else:
                    self._entry_points[point.name] = point
        return self._entry_points

    def _load_installed(self, name: str) -> None:
        point = self._installed()[name]
        package = point.dist.name if point.dist else point.module
        version = point.dist.version if point.dist else "unknown"
        try:
            component = point.load()
            self._add(name, component, Origin(package, version))
        except Exception as error:  # a plugin may fail in any way, and must not take the rest down
            plugins.broken[point.value] = f"{type(error).__name__}: {error}"
            raise UserError(
                f"the plugin {package!r} offers {self.singular} {name!r} but does not load: "
                f"{type(error).__name__}: {error}"
            ) from error
        plugins.loaded[package] = Origin(package, version)

    def names(self) -> list[str]:
        """All known names, those of installed plugins included (without importing them)."""
        return sorted(self._builtin_names() | set(self._installed()))

    def get(self, name: str) -> type[C]:
        """The component class called `name`.

        Raises:
            UserError: nothing of that name is known, or the plugin that offers it is broken.
        """
        self._load_builtin()
        if name not in self._components and name in self._installed():
            self._load_installed(name)
        if name not in self._components:
            failed = "".join(f"; the plugin {path!r} did not load ({why})" for path, why in plugins.broken.items())
            raise SpecError(unknown(self.singular, name, self.names()) + failed)
        return self._components[name]

    def origin(self, name: str) -> Origin:
        self.get(name)
        return self._origins[name]

    def parse(self, value: Any) -> C:
        """A component from a name, a shorthand, or a mapping with `name` and options.

        Raises:
            SpecError: with the path to the wrong value.
        """
        if isinstance(value, self.base):
            return value
        if isinstance(value, str):
            return self._parse_text(value)
        if not isinstance(value, Mapping):
            raise SpecError(f"a {self.singular} is a name or a mapping with a name and options, got {value!r}")
        options = dict(value)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise SpecError(f"a {self.singular} needs a name (known: {', '.join(self.names())})", ("name",))
        try:
            component = self.get(name)
        except SpecError as error:
            shorthand = self._from_shorthand(name)
            if shorthand is None:
                raise SpecError(error.problem, ("name",)) from None
            component, implied = shorthand
            options = {**implied, **options}
        return build(component, options)

    def _parse_text(self, text: str) -> C:
        self._load_builtin()
        if text not in self._components:
            shorthand = self._from_shorthand(text)
            if shorthand is not None:
                return build(*shorthand)
        return build(self.get(text), {})

    def _from_shorthand(self, text: str) -> tuple[type[C], dict[str, Any]] | None:
        self._load_builtin()
        for component in self._components.values():
            options = component.parse_shorthand(text)
            if options is not None:
                return component, options
        return None


M = TypeVar("M", bound=BaseModel)


def build(model: type[M], options: Mapping[str, Any]) -> M:
    """Validate `options` against `model`; the first problem becomes a `SpecError` with its path.

    Raises:
        SpecError: an option is unknown, missing, or of the wrong kind or range.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise first_problem(error, model) from None


def first_problem(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """The first of pydantic's findings as one sentence with the path to the value."""
    finding = error.errors()[0]
    path = tuple(part for part in finding["loc"])
    cause = finding.get("ctx", {}).get("error")
    if isinstance(cause, SpecError):
        return SpecError(cause.problem, path + cause.path)
    if finding["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        return SpecError(unknown("key", str(path[-1]), known) if known else f"unknown key {path[-1]!r}", path)
    if finding["type"] == "missing":
        return SpecError(f"the key {path[-1]!r} is missing", path)
    message = finding["msg"].removeprefix("Value error, ")
    return SpecError(f"{message[0].lower()}{message[1:]}, got {finding['input']!r}", path)


def _fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    current: Any = model
    for part in path:
        fields = getattr(current, "model_fields", {})
        current = fields[part].annotation if part in fields else None
    return list(getattr(current, "model_fields", {}))


class ComponentOf:
    """Annotation of a config field that holds a component of a kind: `Annotated[Any, ComponentOf("objectives")]`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: registry(self.kind).parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda component: component.spec()),
            metadata={"pydantic_js_functions": [lambda _schema, _handler: {"x-component": self.kind}]},
        )


def registry(kind: str) -> Registry[Any]:
    """The registry of `kind`.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in KINDS and kind + "s" in KINDS:
        kind += "s"
    if kind not in KINDS:
        raise UserError(unknown("kind", kind, KINDS))
    if kind not in _registries:
        importlib.import_module(KINDS[kind])
    return _registries[kind]


def load_plugin(plugin: str, relative_to: Path | None = None) -> None:
    """Import a plugin named in a recipe or on the command line: a `.py` file or a module.

    A plugin that fails is remembered in `plugins.broken` and does not take the rest down.
    """
    try:
        if plugin.endswith(".py"):
            path = (relative_to or Path.cwd()) / plugin
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            module_name = f"nasdistill_plugin_{path.stem}_{digest[:12]}"
            if module_name not in sys.modules:
                spec = importlib.util.spec_from_file_location(module_name, path)
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                sys.modules[module_name] = module
                try:
                    spec.loader.exec_module(module)
                except BaseException:
                    del sys.modules[module_name]
                    raise
            plugins.loaded[plugin] = Origin(plugin, f"sha256:{digest}")
        else:
            module = importlib.import_module(plugin)
            file = getattr(module, "__file__", None)
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "unknown"
            plugins.loaded[plugin] = Origin(plugin, f"sha256:{digest}")
    except Exception as error:  # a plugin may fail in any way, and must not take the rest down
        plugins.broken[plugin] = f"{type(error).__name__}: {error}"


def _origin_of(component: type[Component]) -> Origin:
    if component.__module__.startswith("nasdistill."):
        return Origin("built-in", "")
    file = getattr(sys.modules.get(component.__module__), "__file__", None)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "unknown"
    return Origin(Path(file).name if file else component.__module__, f"sha256:{digest}")
