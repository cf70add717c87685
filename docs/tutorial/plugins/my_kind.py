"""A kind of one's own, corruptions of images, and a stage that scores a network on corrupted images."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field

from nasdistill.data.base import ImageSet
from nasdistill.data.loaders import evaluation_batches
from nasdistill.errors import UserError
from nasdistill.registry import Component, ComponentOf, Registry
from nasdistill.stages import STAGES, Context, Inputs, Outcome, Reference, Stage
from nasdistill.stages.networks import network_for_data
from nasdistill.training.metrics import evaluate


class Corruption(Component):
    """Base of all corruptions."""

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """From images in [0, 1], [N, C, H, W], to corrupted ones."""
        raise NotImplementedError(type(self).__name__)


CORRUPTIONS: Registry[Corruption] = Registry("corruptions", Corruption, __name__)


@CORRUPTIONS.register("contrast")
class Contrast(Corruption):
    """Brings each image closer to its mean."""

    source = "Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness (arXiv:1903.12261)"

    left: float = Field(0.4, ge=0, le=1, description="how much of the contrast is left")

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3), keepdim=True).lerp(images, self.left)


@STAGES.register("robustness")
class Robustness(Stage):
    """Score a trained network on corrupted test images."""

    makes = "metrics"

    network: Annotated[str, Reference("network")] = Field(description="a stage or an artifact's folder")
    corruption: Annotated[Any, ComponentOf("corruptions")] = Field(
        "contrast", validate_default=True, description="what is done to each test image"
    )

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        spec, network = network_for_data("network", self.network, inputs, context, "trained")
        test, engine = context.data.test, context.engine
        if not isinstance(test, ImageSet):
            raise UserError("corruptions need images in memory; raise the memory_mb of the data set")
        data = replace(context.data, normalisation=spec.normalisation or context.data.normalisation)
        pixels = self.corruption.apply(test.images / 255).mul(255).round().clamp(0, 255).to(torch.uint8)
        score = evaluate(engine.place(network), evaluation_batches(replace(test, images=pixels), data, engine), engine)
        return Outcome({"robustness": score.accuracy})
