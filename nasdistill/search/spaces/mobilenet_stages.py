"""Spaces of whole networks of inverted residual blocks, whose stages are chosen rather than a cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator

from nasdistill.component import Component, Options, listed
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.limits import odd
from nasdistill.registry import registry
from nasdistill.search.spaces import SearchSpace

Number = Annotated[int, Field(gt=0)]
Alternatives = Annotated[tuple[Number, ...], BeforeValidator(listed), Field(min_length=1)]
"""Numbers to choose one of; a number alone leaves no choice."""
Sides = Annotated[tuple[Annotated[Number, AfterValidator(odd)], ...], BeforeValidator(listed), Field(min_length=1)]


class StageChoices(Options):
    """What one stage may be."""

    kernel: Sides = Field((3,), description="sides of the depthwise convolutions' kernels; odd")
    expansion: Alternatives = Field((6,), description="channels within a block, as multiples of those that it reads")
    width: Alternatives = Field(description="channels that each block gives")
    depth: Alternatives = Field((1,), description="blocks")
    stride: int = Field(1, ge=1, le=2, description="of the first block; 2 halves the resolution")

    @field_validator("kernel", "expansion", "width", "depth")
    @classmethod
    def _each_once(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        for index, number in enumerate(numbers):
            if number in numbers[:index]:
                raise SpecError(f"{number} is listed twice", (index,))
        return numbers

    def of(self, key: str) -> tuple[int, ...]:
        """The alternatives of one of the four."""
        found: tuple[int, ...] = getattr(self, key)
        return found


CHOSEN = ("kernel", "expansion", "width", "depth")


class MobileSpace(SearchSpace):
    """Base of all spaces of the model `mobilenet`: each stage chooses kernel, expansion, width and depth."""

    # The defaults of a space come from a file, so they are checked like what a recipe gives.
    model_config = ConfigDict(validate_default=True)

    stem: int = Field(32, gt=0, description="channels of the first convolution")
    stem_stride: int = Field(2, ge=1, le=2, description="stride of the first convolution; 1 for small images")
    stages: tuple[StageChoices, ...] = Field(min_length=1, description="what each stage may be")
    head: int = Field(1280, gt=0, description="channels of the last convolution, which the classifier reads")
    dropout: float = Field(0.2, ge=0, lt=1, description="probability of dropping a value before the classifier")

    def looked_up(self) -> Iterator[type[Component]]:
        yield registry("models").get("mobilenet")

    def choices(self, shape: Shape, classes: int) -> dict[str, tuple[Any, ...]]:
        """By stage and what is chosen of it the alternatives, where there are several."""
        return {
            f"{number}/{key}": stage.of(key)
            for number, stage in enumerate(self.stages)
            for key in CHOSEN
            if len(stage.of(key)) > 1
        }

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        stages = [
            {
                "stride": stage.stride,
                **{key: stage.of(key)[0] if len(stage.of(key)) == 1 else chosen[f"{number}/{key}"] for key in CHOSEN},
            }
            for number, stage in enumerate(self.stages)
        ]
        frame = {"stem": self.stem, "stem_stride": self.stem_stride, "head": self.head, "dropout": self.dropout}
        return {"name": "mobilenet", **frame, "stages": stages}
