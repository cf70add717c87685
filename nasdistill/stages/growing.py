"""How a network grows: the options that stages share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from nasdistill.component import Facts, Options
from nasdistill.errors import SpecError
from nasdistill.growth.plan import TargetMeasure
from nasdistill.registry import Component, ComponentOf

if TYPE_CHECKING:
    import torch

    from nasdistill.data.base import Data
    from nasdistill.data.loaders import ImageBatches
    from nasdistill.stages.base import Context

GROWTH = "growth.json"
SIZE = ("ratio", "measure")


class GrowthOptions(Options):
    """A mixin: the method, the size, and the images that importance is measured on."""

    method: Annotated[Any, ComponentOf("growth-methods")] = Field(
        "fisher", validate_default=True, description="how it grows, e.g. uniform or {name: fisher, per: parameter}"
    )
    ratio: float = Field(2.0, gt=1, description="how many times as large it becomes")
    measure: TargetMeasure = "params"
    images: int = Field(1024, gt=0, description="training images that importance is measured on, sampled with the seed")
    batch_size: int = Field(
        128, gt=0, description="images scored at a time; only statistics of batch norms that are estimated depend on it"
    )

    @model_validator(mode="before")
    @classmethod
    def _size_is_given_once(cls, options: Any) -> Any:
        """`ratio` and `measure` of a method that is given with them hold for the stage.

        Raises:
            SpecError: the stage gives another value itself.
        """
        if not isinstance(options, Mapping):
            return options
        method = options.get("method")
        if isinstance(method, Component):
            method = method.model_dump(exclude_unset=True)
        own = {key: method[key] for key in SIZE if key in method} if isinstance(method, Mapping) else {}
        for key, value in own.items():
            if options.get(key, value) != value:
                raise SpecError(f"{key} is {options[key]!r} here but {value!r} in the method; give it once", (key,))
        return {**options, **own}

    def looks_at_images(self) -> bool:
        """Whether anything is measured on them."""
        return bool(self.method.measures)

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if not self.looks_at_images():
            for name in self.differs("images", "batch_size"):
                yield name, f"{self.method.registered_name!r} measures no importance"
        else:
            yield from images_without_effect(self, self.images, facts)

    @model_validator(mode="after")
    def _size_holds_for_the_method(self) -> GrowthOptions:
        sized = self.method.model_copy(update={key: getattr(self, key) for key in SIZE})
        object.__setattr__(self, "method", sized)  # the config is frozen for others, and not finished here
        return self


def images_without_effect(options: Options, images: int, facts: Facts) -> Iterator[tuple[str, str]]:
    """The option `images`, if it is given and there are not as many."""
    if facts.training and images > sum(facts.training):
        for name in options.differs("images"):
            yield name, f"it is measured on all of the {sum(facts.training)} training images"


def measured_images(data: Data, context: Context, images: int, batch_size: int) -> Again:
    """Batches of so many of the training images, on which importance is measured."""
    import torch

    from nasdistill.data.loaders import evaluation_batches
    from nasdistill.data.seeds import generator_for

    sample = torch.randperm(len(data.train), generator=generator_for(context.seed, "growth"))[:images]
    return Again(evaluation_batches(data.train.subset(sample), data, context.engine, batch_size))


class Again:
    """The same batches each time they are iterated over."""

    def __init__(self, batches: ImageBatches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return ((batch.images, batch.labels) for batch in self._batches.epoch(0))
