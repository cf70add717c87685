"""Names for tab completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nasdistill import resources
from nasdistill.registry import kinds, registry


def completing(kind: str) -> Callable[[str], list[str]]:
    """A completion for typer over the components of `kind`."""
    return lambda incomplete: [name for name in registry(kind).names() if name.startswith(incomplete)]


def complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in kinds() if kind.startswith(incomplete)]


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes that come along by name, and YAML files below the folder typed so far."""
    shipped = [path.stem for path in sorted(resources.recipes().glob("*.yaml"))]
    folder, _, start = incomplete.rpartition("/")
    here = [path for path in sorted(Path(folder or ".").glob(start + "*")) if path.is_dir() or path.suffix == ".yaml"]
    files = [f"{path}/" if path.is_dir() else str(path) for path in here]
    return [name for name in [*shipped, *files] if name.startswith(incomplete)]
