"""Stage `initialise`: the first weights of a network, made rather than drawn."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.errors import found_at
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs, Stage
from nasdistill.stages.growing import measured_images
from nasdistill.stages.networks import network_for_data, spec_for_data

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.models.base import NetworkSpec

log = logging.getLogger(__name__)


@STAGES.register("initialise")
class Initialise(Stage):
    """Give a network first weights with which it learns sooner than with drawn ones.

    `identity`: its convolutions begin by passing on what they read. `whitened`: the filters of the first one take apart
    what neighbouring pixels have in common. All other weights are drawn as the model draws them. The result is a
    network for `train` and `distill`.
    """

    source: ClassVar[str] = "Zagoruyko and Komodakis 2017 (arXiv:1706.00388); Jordan 2024 (arXiv:2404.00498)"
    makes: ClassVar[str] = "network"
    positional: ClassVar[tuple[str, ...]] = ("network",)

    network: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        description="a stage, an artifact's folder, or a model; weights are left behind"
    )
    methods: list[Literal["identity", "whitened"]] = Field(
        ["whitened"], min_length=1, description="what the first weights are, e.g. [identity, whitened]"
    )
    images: int = Field(5000, gt=0, description="training images that are whitened, sampled with the seed")
    replicate: int = Field(0, ge=0, description="another number draws other weights, as in `train`")

    def replicate_number(self) -> int:
        return self.replicate

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if "whitened" not in self.methods:
            for name in self.differs("images"):
                yield name, "no images are whitened"

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.models.foresight import tentatively

        spec = spec_for_data("network", self.network, specs, context, "fresh")
        if spec is not None:
            with tentatively():
                self._first(spec, spec.build())
        return spec

    def _first(self, spec: NetworkSpec, network: nn.Module) -> nn.Conv2d | None:
        """The layer to whiten, if one is."""
        from nasdistill.training.initialisation import first_convolution

        with found_at("network"):
            return first_convolution(network, spec.shape[0]) if "whitened" in self.methods else None

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.base import Network, save_network
        from nasdistill.models.inspection import described
        from nasdistill.training.initialisation import begin_as_identity, whiten
        from nasdistill.training.resizing import as_read

        spec, network = network_for_data("network", self.network, inputs, context, "fresh")
        first = self._first(spec, network)
        if "identity" in self.methods:
            log.info("%d convolutions begin as the identity", begin_as_identity(network))
        if first is not None:
            batches = measured_images(context.data, context, self.images, batch_size=128)
            count = whiten(first, (as_read(network, images.cpu()) for images, _labels in batches))
            log.info("the first layer whitens %d directions of %d", count, first.weight[0].numel())
        save_network(context.folder, spec, network)
        return Outcome(described(network, spec.reads), Network(spec, network))
