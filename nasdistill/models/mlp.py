"""Multi-layer perceptrons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS
from nasdistill.models.limits import require_images
from nasdistill.models.scalable import Scalable, Unit

_SHORTHAND = re.compile(r"mlp((?:-[0-9]{1,18})+)", re.IGNORECASE | re.ASCII)


@MODELS.register("mlp")
class MLP(Scalable):
    """Fully connected layers with ReLU between, on the flattened image. Shorthand: `mlp-1200-1200`."""

    source: ClassVar[str] = "Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 3"

    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (1200, 1200), max_length=1000, description="units of each hidden layer"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a hidden unit")

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        match = _SHORTHAND.fullmatch(text)
        return {"hidden": tuple(map(int, match[1].split("-")[1:]))} if match else None

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images("multi-layer perceptron", shape)
        channels, height, width = shape
        return Perceptron(channels * height * width, self.hidden, self.dropout, classes)

    def units(self) -> tuple[Unit, ...]:
        return tuple(Unit(f"hidden.{layer}", width) for layer, width in enumerate(self.hidden))

    def with_widths(self, widths: Mapping[str, int]) -> MLP:
        return self.with_options(hidden=tuple(widths.get(unit.name, unit.width) for unit in self.units()))


class Perceptron(nn.Module):
    """Flatten, hidden layers, linear. It has no maps over space, so attention transfer has no feature points here."""

    feature_points: tuple[str, ...] = ()

    def __init__(self, inputs: int, hidden: tuple[int, ...], dropout: float, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout))
                for before, after in zip((inputs, *hidden), hidden, strict=False)
            )
        )
        self.classifier = nn.Linear(hidden[-1] if hidden else inputs, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.hidden(images.flatten(1)))
        return logits
