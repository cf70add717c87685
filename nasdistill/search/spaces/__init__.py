"""Search spaces: the choices that make an architecture, and the model that chosen ones describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from nasdistill.data.base import Shape, Size
from nasdistill.registry import Component, Registry, registry


class SearchSpace(Component):
    """Base of all search spaces."""

    size: Size | None = Field(
        None,
        description="height and width that its networks read, e.g. 64x64, to which they resize the data set's images; "
        "by default they read them as they are",
    )

    def choices(self, shape: Shape, classes: int) -> dict[str, tuple[Any, ...]]:
        """By label the alternatives, plain data (JSON), of which an architecture has one each.

        A choice of n things out of m is one label, whose alternatives are the combinations.

        Args:
            shape: of an image.
            classes: how many there are.
        """
        raise NotImplementedError(type(self).__name__)

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The model, as a recipe writes it, that one alternative of each label describes.

        Raises:
            KeyError: a label is missing.
        """
        raise NotImplementedError(type(self).__name__)

    def canonical(self, chosen: Mapping[str, Any]) -> Any:
        """What architectures that are one function have in common, as far as a space knows; plain data (JSON)."""
        return registry("models").parse(self.model(chosen)).spec()

    def proxy(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """What stands for `model(chosen)` where architectures are trained to be compared: itself, or a smaller one."""
        return self.model(chosen)

    def other_size(self) -> str | None:
        """Why networks that are found have another size than those of the search, to follow a colon, or None."""
        for name in ("channels", "cells"):
            own, searched = getattr(self, name, None), getattr(self, f"search_{name}", None)
            if own != searched and searched is not None:
                return f"its {name} are {own} and its search_{name} {searched}, which must be equal"
        return "its widths must be left out" if getattr(self, "widths", None) else None


SPACES: Registry[SearchSpace] = Registry("spaces", SearchSpace, "nasdistill.search.spaces")
