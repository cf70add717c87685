"""Search spaces that are YAML files: those of `search_spaces/` by name, any other by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import yaml
from pydantic import create_model

from nasdistill import resources
from nasdistill.errors import SpecError, UserError, unknown
from nasdistill.paths import located
from nasdistill.search.spaces import SPACES, SearchSpace
from nasdistill.search.spaces.darts_cells import DartsSpace
from nasdistill.search.spaces.mobilenet_stages import MobileSpace
from nasdistill.search.spaces.summed_cells import SummedSpace

SUFFIXES = (".yaml", ".yml")
FAMILIES: dict[str, type[SearchSpace]] = {
    "darts": DartsSpace,
    "nas-bench-201": SummedSpace,
    "mobilenet": MobileSpace,
}
"""What a file's `family` may be; `darts`, where it says nothing."""


def read_space(path: Path) -> tuple[type[SearchSpace], dict[str, Any]]:
    """The family of the space in a YAML file, and its fields, with `description` and `source` where it has them.

    Raises:
        UserError: the file cannot be read, is no mapping, or holds an unknown key or family.
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
    name = content.pop("family", "darts")
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(f"{path}: {unknown('family', str(name), FAMILIES)}")
    family = FAMILIES[name]
    known = [*family.model_fields, "family", "description", "source"]
    for key in content:
        if key not in known:
            raise UserError(f"{path}: {unknown('key', str(key), known)}")
    return family, content


def space_from_file(path: Path) -> type[SearchSpace]:
    """A search space whose options default to those of the file."""
    family, content = read_space(path)
    description = str(content.pop("description", ""))
    source = str(content.pop("source", ""))
    fields: dict[str, Any] = {
        name: (Annotated[info.annotation, info], content[name])
        for name, info in family.model_fields.items()
        if name in content
    }
    title = "".join(part.title() for part in path.stem.split("-"))
    space = cast(
        type[SearchSpace], create_model(title, __base__=family, __module__=__name__, __doc__=description, **fields)
    )
    space.source = source
    return space


for _path in sorted(resources.search_spaces().glob("*.yaml")):
    SPACES.register(_path.stem)(space_from_file(_path))


def _options(text: str, family: type[SearchSpace]) -> dict[str, Any] | None:
    """Those of the space in the file of that path, if it is of that family; None if this is no path."""
    if not text.endswith(SUFFIXES):
        return None
    try:
        its_family, content = read_space(located(text))
    except UserError as error:
        raise SpecError(str(error)) from None
    if its_family is not family:
        return None
    return {key: value for key, value in content.items() if key in family.model_fields}


@SPACES.register("custom")
class Custom(DartsSpace):
    """A space of one's own: its options given in the recipe, or the path of a YAML file in place of the name."""

    source: ClassVar[str] = "the cells of Liu et al. 2019, DARTS"

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        return _options(text, DartsSpace)


@SPACES.register("custom-nas-bench-201")
class CustomSummed(SummedSpace):
    """A space of one's own with nodes that sum: its options in the recipe, or the path of a YAML file of its family."""

    source: ClassVar[str] = "the cells of Dong and Yang 2020, NAS-Bench-201"

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        return _options(text, SummedSpace)


@SPACES.register("custom-mobilenet")
class CustomMobile(MobileSpace):
    """A space of one's own of inverted residual blocks: its options, or the path of a YAML file of its family."""

    source: ClassVar[str] = "Tan et al. 2019, MnasNet (arXiv:1807.11626)"

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        return _options(text, MobileSpace)
