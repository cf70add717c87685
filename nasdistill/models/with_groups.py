"""Networks of any model with fewer groups in their depthwise convolutions: filters that read several channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import UserError, unknown
from nasdistill.models.base import MODELS, Model
from nasdistill.registry import ComponentOf


@MODELS.register("with-groups")
class WithGroups(Model):
    """Another model's network, with fewer groups in some of its depthwise convolutions.

    Their filters read several channels each, and are drawn anew, as torch draws those of convolutions. All other
    modules, and all paths, stay.
    """

    source: ClassVar[str] = "code released with Whettam 2020, which halves the groups of depthwise convolutions"

    model: Annotated[Any, ComponentOf("models")] = Field(description="the model")
    groups: dict[str, Annotated[int, Field(gt=0)]] = Field(
        {}, description="groups by the paths of depthwise convolutions, each a divisor of the channels"
    )

    @classmethod
    def of(cls, model: Model, groups: dict[str, int]) -> WithGroups:
        """A model with those groups; where it resizes its images, this does."""
        return cls(model=model.model_copy(update={"size": None}), groups=groups, size=model.size)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        network: nn.Module = self.model.build(shape, classes)
        layers = dict(depthwise_layers(network))
        for path, groups in self.groups.items():
            if path not in layers:
                raise UserError(unknown("depthwise convolution", path, layers))
            old = layers[path]
            if old.out_channels % groups:
                raise UserError(
                    f"the {old.out_channels} channels of {path!r} cannot be in {groups} groups of equal size"
                )
            network.set_submodule(path, _with_groups(old, groups))
        return network


def depthwise_layers(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions with a group for every channel, and a filter for every group, by path."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1:
            yield path, module


def _with_groups(layer: nn.Conv2d, groups: int) -> nn.Conv2d:
    return nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        groups,
        layer.bias is not None,
        layer.padding_mode,
    )
