"""The networks of the library timm by name, for any number of channels and classes."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Normalisation, Shape
from nasdistill.depthwise.convolution import depthwise_conv2d
from nasdistill.errors import SpecError, nearest
from nasdistill.extras import require_extra
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import feature_points, maps_among
from nasdistill.models.pretrained import LibraryModel, Published


class SamePadded(nn.Conv2d):
    """A depthwise convolution with TensorFlow's padding, as timm's `Conv2dSame`, with the gradients of this house."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pads: list[int] = []
        for side in (1, 0):  # the last dimension first
            step, reach = self.stride[side], self.dilation[side] * (self.kernel_size[side] - 1)
            length = images.shape[2 + side]
            pad = max((math.ceil(length / step) - 1) * step + reach + 1 - length, 0)
            pads += [pad // 2, pad - pad // 2]
        stride, dilation = (cast(tuple[int, int], each) for each in (self.stride, self.dilation))
        return depthwise_conv2d(functional.pad(images, pads), self.weight, self.bias, stride, 0, dilation)


@MODELS.register("timm")
class Timm(LibraryModel):
    """A network of timm. Shorthand: `timm:NAME`, e.g. `timm:resnet18`, or `timm:NAME.TAG` for certain weights.

    Feature points are those of the family, as far as they are maps of the image.
    """

    source: ClassVar[str] = "Wightman, PyTorch Image Models"
    prefix: ClassVar[str] = "timm:"

    architecture: str = Field(description="a name that timm.list_models() gives, with or without a tag of weights")

    @field_validator("architecture")
    @classmethod
    def _architecture_exists(cls, architecture: str) -> str:
        require_extra("timm", f"timm:{architecture} needs the library timm")
        from timm import list_models, list_pretrained
        from timm.models import is_model, split_model_name_tag

        name, tag = split_model_name_tag(architecture)
        if not is_model(name):
            guess = nearest(name, list_models())
            raise SpecError(f"timm has no network {name!r}" + (f"; did you mean {guess!r}?" if guess else ""))
        tags = [each.partition(".")[2] for each in list_pretrained(f"{name}.*")]
        if tag and tag not in tags:
            raise SpecError(f"timm has no weights {tag!r} of {name!r}; it has {', '.join(tags) or 'none'}")
        return architecture

    @property
    def _config(self) -> Any:
        from timm.models import get_pretrained_cfg

        return get_pretrained_cfg(self.architecture)

    def published(self) -> Published:
        config = self._config
        url = config.url
        if not url and config.hf_hub_id:
            url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
        normalisation = Normalisation(mean=config.mean, std=config.std)
        return Published(normalisation, config.input_size, config.num_classes, url or None)

    def classifier(self, shape: Shape, classes: int) -> nn.Module:
        from timm import create_model
        from timm.layers.conv2d_same import Conv2dSame

        size: dict[str, Any] = {"img_size": shape[1:]} if self._config.fixed_input_size else {}
        network: nn.Module = create_model(self.architecture, in_chans=shape[0], num_classes=classes, **size)
        for part in network.modules():
            if isinstance(part, Conv2dSame) and part.groups == part.in_channels == part.out_channels:
                part.__class__ = SamePadded  # type: ignore[assignment]
        return network

    def points(self, network: nn.Module, shape: Shape) -> tuple[str, ...]:
        taps = [tap["module"] for tap in getattr(network, "feature_info", ())]
        return maps_among(taps, network, shape) or feature_points(network, shape)
