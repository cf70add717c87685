"""Stage `export`: a trained network alone, in formats of other programs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from nasdistill.component import listed
from nasdistill.errors import found_at
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Stage
from nasdistill.stages.networks import network_for


@STAGES.register("export")
class Export(Stage):
    """Write a trained network in formats of other programs, each checked against the network on random images."""

    source: ClassVar[str] = "the formats of ONNX and of torch.export"
    makes: ClassVar[str] = "export"
    reads_data: ClassVar[bool] = False

    network: Annotated[str, Reference("network")] = Field(
        description="what to export: a stage or an artifact's folder with a trained network"
    )
    format: Annotated[list[Annotated[Any, ComponentOf("exporters")]], BeforeValidator(listed)] = Field(
        ["onnx"], min_length=1, validate_default=True, description="one format, or a list of them: onnx, torch, packed"
    )

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.inspection import described

        spec, network = network_for("network", self.network, inputs, context, "trained")
        spec = spec.model_copy(update={"shape": spec.reads})
        exports = {}
        for number, exporter in enumerate(self.format):
            with found_at("format", number):
                exports[exporter.registered_name] = exporter.export(spec, network, context.folder)
        return Outcome({**described(network, spec.shape), "exports": exports})
