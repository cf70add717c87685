"""Stage `binarise`: give an architecture weights of one bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nasdistill.errors import found_at
from nasdistill.registry import registry
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs, Stage
from nasdistill.stages.networks import network_for_data, spec_for_data

if TYPE_CHECKING:
    from nasdistill.models.base import NetworkSpec


@STAGES.register("binarise")
class Binarise(Stage):
    """Make an architecture binary, such as one that a search found: all layers but the first and the last.

    The result is an architecture without weights, the same spec with `binary` set. A model that is named in a recipe
    needs no such stage: `{name: wrn-16-1, binary: xnor}` is binary already.
    """

    source = "Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279)"
    makes = "architecture"

    network: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        description="what becomes binary: a stage, an artifact's folder, or a model; weights are left behind"
    )
    form: Literal["weights", "xnor"] = Field(
        "xnor", description="one bit for each weight (weights), or for each weight and activation (xnor)"
    )

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.models.foresight import check_build

        real = spec_for_data("network", self.network, specs, context, "fresh")
        if real is None:
            return None
        with found_at("network"):
            spec = self._binary(real)
            check_build(spec)
        return spec

    def _binary(self, real: NetworkSpec) -> NetworkSpec:
        model = registry("models").parse({**real.model.spec(), "binary": self.form})
        return real.model_copy(update={"model": model})

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.base import save_network
        from nasdistill.models.inspection import described, size_bytes

        found, real = network_for_data("network", self.network, inputs, context, "fresh")
        with found_at("network"):
            spec = self._binary(found)
            network = spec.build()
        save_network(context.folder, spec, None)
        return Outcome({**described(network, spec.reads), "bytes_before": size_bytes(real)})
