"""Which code a component is: where it comes from, and a hash of all that decides what it computes."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from nasdistill.closure import PLUGIN_FOLDER, closure, digest, distribution_of, file_of
from nasdistill.component import Component
from nasdistill.session import definitions, is_session

log = logging.getLogger(__name__)

BUILT_IN = "built-in"

_warned: set[type] = set()


@dataclass(frozen=True)
class Origin:
    """Where a component comes from.

    Attributes:
        name: `BUILT_IN`, a distribution, a file, or a module.
        version: a distribution's version and the SHA-256 of the plugin's source; empty for built-ins.
        how: what makes it known again, to follow "with".
    """

    name: str
    version: str
    how: str = ""


def origin_of(component: type[Component]) -> Origin:
    """Where a component comes from, by the module that defines it, however it came to be loaded."""
    module = component.__module__
    top = module.partition(".")[0]
    if top == "nasdistill":
        return Origin(BUILT_IN, "")
    if is_session(module):
        return Origin(module, version([component]), "the session that defines it")
    source = digest({name: sha256 for name, sha256 in closure([module]).items() if name.partition(".")[0] == top})
    distribution = distribution_of(top)
    if distribution:
        name, number = distribution.name, distribution.version
        return Origin(name, f"{number}, {source}", f"pip install {name}=={number}")
    file = file_of(module)
    if file and top.startswith(PLUGIN_FOLDER):
        return Origin(Path(file).name, source, f"--plugin {file}")
    return Origin(module, source, f"--plugin {module}")


def origins(components: Iterable[type[Component]]) -> dict[str, dict[str, str]]:
    """Where the plug-ins among `components` come from, and what makes them known again; by `kind/name`."""
    found = {f"{each.registered_kind}/{each.registered_name}": origin_of(each) for each in components}
    return {name: asdict(origin) for name, origin in sorted(found.items()) if origin.name != BUILT_IN}


def version(components: Iterable[type[Component]], *modules: str) -> str:
    """One SHA-256 over the source that decides what `components` and `modules` compute.

    That of a component whose source nobody can read is never the same twice.
    """
    found: dict[str, str] = {}
    more = set(modules)
    for component in components:
        if not is_session(component.__module__):
            more.add(component.__module__)
            continue
        try:
            texts, imported = definitions(component)
        except LookupError as why:
            _warn_once(component, why)
            texts, imported = {component.__qualname__: secrets.token_hex()}, set()
        found |= {f"__main__.{name}": text for name, text in texts.items()}
        more |= imported
    return digest({**closure(more), **found})


def _warn_once(component: type[Component], why: LookupError) -> None:
    if component not in _warned:
        _warned.add(component)
        log.warning(
            "%s %r is defined where its source cannot be read again (%s), so that stages with it run each time",
            *(component.registered_kind, component.registered_name, why),
        )
