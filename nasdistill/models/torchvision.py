"""Torchvision's classifiers by name, for any number of channels and classes."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.errors import SpecError, nearest
from nasdistill.models.base import MODELS
from nasdistill.models.limits import odd
from nasdistill.models.pretrained import LibraryModel, Published

_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
_OF_ANY_WIDTH = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
_WITH_A_STEM = ("resnet", "resnext", "wide_resnet", "shufflenet_v2")
"""Families that begin with `conv1` and `maxpool`, each of stride 2."""


@MODELS.register("torchvision")
class Torchvision(LibraryModel):
    """A classifier of torchvision. Shorthand: `torchvision:NAME`, e.g. `torchvision:resnet18`."""

    source: ClassVar[str] = "torchvision.models"
    prefix: ClassVar[str] = "torchvision:"

    architecture: str = Field(description="a name that torchvision.models.list_models() gives for a classifier")
    width_multiplier: float = Field(
        1.0, gt=0, description=f"times the channels of all layers; for {', '.join(_OF_ANY_WIDTH)}", examples=[0.43]
    )
    stem: int | None = Field(
        None,
        gt=0,
        le=15,
        description="for images of about 32 pixels: side of the first convolution's kernels, which has stride 1 then, "
        "and no pooling behind it, e.g. 3; for resnets, resnexts and shufflenets. By default the stem is as published",
    )

    @field_validator("architecture")
    @classmethod
    def _architecture_exists(cls, architecture: str) -> str:
        known = _classifiers()
        if architecture not in known:
            guess = nearest(architecture, known)
            hint = f"did you mean {guess!r}?" if guess else f"it has {len(known)}, from {known[0]!r} to {known[-1]!r}"
            raise SpecError(f"torchvision has no classifier {architecture!r}; {hint}")
        return architecture

    @model_validator(mode="after")
    def _can_be_scaled(self) -> Torchvision:
        if self.width_multiplier != 1 and self.architecture not in _OF_ANY_WIDTH:
            problem = f"{self.architecture} has one width; those of any width are {', '.join(_OF_ANY_WIDTH)}"
            raise SpecError(problem, ("width_multiplier",))
        if self.stem is not None:
            if not self.architecture.startswith(_WITH_A_STEM):
                problem = f"{self.architecture} has no stem of convolution and pooling; those are in"
                raise SpecError(f"{problem} {', '.join(_WITH_A_STEM)}", ("stem",))
            odd(self.stem)
        return self

    def published(self) -> Published:
        from torchvision.models import get_model_weights

        weights: Any = get_model_weights(self.architecture).DEFAULT
        preset = weights.transforms()
        side = preset.crop_size[0]
        inception = self.architecture in _WITH_AUXILIARY_HEADS
        # With its weights torchvision's inceptions change the normalisation to this one, in their forward pass.
        mean, std = ((0.5,) * 3,) * 2 if inception else (tuple(preset.mean), tuple(preset.std))
        return Published(
            Normalisation(mean=mean, std=std),
            (3, side, side),
            len(weights.meta["categories"]),
            weights.url if self.width_multiplier == 1 and self.stem is None else None,
            ("AuxLogits.*", "aux1.*", "aux2.*") if inception else (),
        )

    def classifier(self, shape: Shape, classes: int) -> nn.Module:
        from torchvision.models import get_model

        options = {"weights": None, "num_classes": classes, **_options_of(self.architecture, shape)}
        if self.architecture in _OF_ANY_WIDTH:
            options["width_mult"] = self.width_multiplier
        network: nn.Module = get_model(self.architecture, **options)
        if shape[0] != 3 or self.stem is not None:
            _begin_with(network, shape[0], self.stem)
        return network


def _classifiers() -> list[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def _options_of(architecture: str, shape: Shape) -> dict[str, Any]:
    """What some families must be told: transformers the image's size, inceptions to leave out their auxiliary heads."""
    _channels, height, width = shape
    if architecture.startswith("vit_"):
        if height != width:
            raise ValueError("a vision transformer reads square images")
        return {"image_size": height}
    if architecture.startswith("maxvit_"):
        return {"input_size": (height, width)}
    if architecture in _WITH_AUXILIARY_HEADS:
        return {"aux_logits": False, "init_weights": True}
    return {}


def _begin_with(network: nn.Module, channels: int, stem: int | None) -> None:
    """Replace the first convolution, which reads three channels, by one that reads `channels`.

    Its weights are drawn anew, with a deviation by which its output varies as much as before. A `stem` is the side of
    its kernels; it keeps the resolution, and so does what follows it.
    """
    path, old = next((path, part) for path, part in network.named_modules() if isinstance(part, nn.Conv2d))
    assert old.in_channels == 3
    assert isinstance(old.padding, tuple)
    kernel, stride, padding = old.kernel_size, old.stride, old.padding
    if stem is not None:
        kernel, stride, padding = (stem,) * 2, (1, 1), (stem // 2,) * 2
        network.maxpool = nn.Identity()
    new = nn.Conv2d(
        channels,
        old.out_channels,
        (kernel[0], kernel[1]),
        (stride[0], stride[1]),
        (padding[0], padding[1]),
        bias=old.bias is not None,
    )
    if not new.weight.is_meta:
        read, reads = old.weight[0].numel(), new.weight[0].numel()
        nn.init.normal_(new.weight, std=float(old.weight.detach().std()) * math.sqrt(read / reads))
    new.bias = old.bias
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, new)
