"""What residual networks of three groups of blocks have in common: their widths and depths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.models.scalable import Scalable, Unit

Width = Annotated[int, Field(gt=0)]
Widths = tuple[Width, Width, Width, Width]


class GroupedModel(Scalable):
    """A stem and three groups of equally many blocks of two convolutions, at resolutions that halve.

    Attributes:
        other_layers: that are in no block.
    """

    other_layers: ClassVar[int]

    depth: int
    widths: Widths | None = Field(
        None, description="channels of the stem and of each group, instead of the published ones"
    )

    def published_widths(self) -> Widths:
        """Channels of the stem and of each group."""
        raise NotImplementedError(type(self).__name__)

    def group_widths(self) -> Widths:
        """Those of the network."""
        return self.widths or self.published_widths()

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.widths is not None and "width" in type(self).model_fields:
            yield from ((name, "`widths` says the channels of all groups") for name in self.differs("width"))

    def units(self) -> tuple[Unit, ...]:
        """The stem, and each group; a stem as wide as the first group is one with it, as their sums are."""
        stem, *groups = self.group_widths()
        found = tuple(Unit(f"groups.{number}", width) for number, width in enumerate(groups))
        return found if stem == groups[0] else (Unit("stem", stem), *found)

    def with_widths(self, widths: Mapping[str, int]) -> GroupedModel:
        """Without the option, where they are those that are published."""
        stem, *groups = self.group_widths()
        found = [widths.get(f"groups.{number}", width) for number, width in enumerate(groups)]
        every = (found[0] if stem == groups[0] else widths.get("stem", stem), *found)
        return self.with_options(widths=None if every == self.published_widths() else every)

    def blocks(self) -> int:
        """Of each group."""
        return (self.depth - self.other_layers) // 6

    def with_blocks(self, blocks: int) -> GroupedModel:
        return self.with_options(depth=6 * blocks + self.other_layers)
