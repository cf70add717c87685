"""Stage `quantise`: train a network on as it computes in 8 bits, so that its export loses nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.errors import found_at
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Reference, Specs
from nasdistill.stages.distill import Teaches
from nasdistill.stages.networks import Weights

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.models.base import NetworkSpec


@STAGES.register("quantise")
class Quantise(Teaches):
    """Train a network on while it computes as its export `onnx-int8` will, on the labels and on a frozen teacher.

    The result is a network of floats like any other, whose weights and activations can be rounded; its accuracies
    here are those in 8 bits. Export it as `onnx-int8`. The teacher may be the network itself, as it was. An auxiliary
    head stays as it was.
    """

    source = "Jacob et al. 2018, Quantization and training of neural networks (arXiv:1712.05877), section 3"

    student: Annotated[str | dict[str, Any], Reference("network")] = Field(
        description="the trained network, a stage or an artifact's folder"
    )
    epochs: int = Field(5, gt=0, description="passes over the training images")
    optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        {"name": "adamw", "lr": 1e-4}, validate_default=True, description="what updates the weights"
    )
    calibration_images: int = Field(
        512, gt=0, description="training images, without augmentation, whose activations give the ranges to begin with"
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if facts.auxiliary():
            yield from ((name, "the auxiliary head takes no part") for name in self.differs("auxiliary_weight"))

    @property
    def student_weights(self) -> Weights:
        return "trained"

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        spec = super().foresee(specs, context)
        if spec is not None:
            with found_at("student"):
                _check_rounding(spec.model_dump_json())
        return spec

    def learner(self, network: nn.Module, spec: NetworkSpec, context: Context) -> nn.Module:
        import torch

        from nasdistill.models.exported import calibration_images
        from nasdistill.models.simulated_int8 import SimulatedInt8

        simulated = SimulatedInt8(network, spec.shape)
        context.engine.place(simulated)
        wanted = self.calibration_images, context.seed, context.engine
        images = calibration_images(context.data, spec.shape[1:], *wanted)
        simulated.calibrate(torch.split(images.to(context.engine.device), self.batch_size))
        return simulated


@functools.cache
def _check_rounding(spec: str) -> None:
    """Refuse a network that cannot train so; once for all seeds, as seconds go by for large ones."""
    from nasdistill.models.base import NetworkSpec
    from nasdistill.models.foresight import tentatively
    from nasdistill.models.simulated_int8 import SimulatedInt8

    network = NetworkSpec.model_validate_json(spec)
    with tentatively():
        SimulatedInt8(network.build(), network.shape).check_training(network.shape)
