"""Search spaces that are YAML files: those of `search_spaces/` by name, any other by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import create_model

from nasdistill import resources
from nasdistill.errors import SpecError, UserError, unknown
from nasdistill.paths import located
from nasdistill.search.spaces import SPACES
from nasdistill.search.spaces.cells import CellSpace

SUFFIXES = (".yaml", ".yml")


def read_space(path: Path) -> dict[str, Any]:
    """The fields of a `CellSpace` in a YAML file, with its `description` and `source` where it has them.

    Raises:
        UserError: the file cannot be read, is no mapping, or holds an unknown key.
    """
    try:
        text = path.read_text("utf-8")
        # A space needs no aliases, and a few nested ones can stand for gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise UserError(f"{path}: a search space may not use YAML aliases")
        content = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"the search space {str(path)!r} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a search space is a mapping of options, got {content!r:.80}")
    known = [*CellSpace.model_fields, "description", "source"]
    for key in content:
        if key not in known:
            raise UserError(f"{path}: {unknown('key', str(key), known)}")
    return content


def space_from_file(path: Path) -> type[CellSpace]:
    """A search space whose options default to those of the file."""
    content = read_space(path)
    description = str(content.pop("description", ""))
    source = str(content.pop("source", ""))
    fields: dict[str, Any] = {
        name: (Annotated[info.annotation, info], content[name])
        for name, info in CellSpace.model_fields.items()
        if name in content
    }
    title = "".join(part.title() for part in path.stem.split("-"))
    space = create_model(title, __base__=CellSpace, __module__=__name__, __doc__=description, **fields)
    space.source = source
    return space


for _path in sorted(resources.search_spaces().glob("*.yaml")):
    SPACES.register(_path.stem)(space_from_file(_path))


@SPACES.register("custom")
class Custom(CellSpace):
    """A space of one's own: its options given in the recipe, or the path of a YAML file in place of the name."""

    source: ClassVar[str] = "the cells of Liu et al. 2019, DARTS"

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        if not text.endswith(SUFFIXES):
            return None
        try:
            content = read_space(located(text))
        except UserError as error:
            raise SpecError(str(error)) from None
        return {key: value for key, value in content.items() if key in cls.model_fields}
