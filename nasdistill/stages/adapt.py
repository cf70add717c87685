"""Stage `adapt`: fit a trained network to other images and classes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from nasdistill.data.base import Size
from nasdistill.errors import SpecError, found_at
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs, Stage
from nasdistill.stages.class_names import ClassMatch, MatchesClasses, match_classes, names_in_words, places_of
from nasdistill.stages.networks import network_for, spec_for

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data.base import Data
    from nasdistill.models.base import NetworkSpec

log = logging.getLogger(__name__)


@STAGES.register("adapt")
class Adapt(MatchesClasses, Stage):
    """Fit a trained network to the data's classes, image size, channels and normalisation, and keep its weights.

    The result is a network for `train`, `distill` and `evaluate`. With another normalisation it has the same logits for
    the same pixels; a grey image is read as three equal colours, a colour image as its luma.
    """

    source = "luma: ITU-R BT.601, section 2.5.1"
    makes = "network"

    network: Annotated[str, Reference("network")] = Field(
        description="what is adapted: a stage or an artifact's folder with a trained network"
    )
    head: Literal["keep", "new"] = Field(
        "keep",
        description="new: draw the layers that depend on the number of classes anew; keep: they stay, in the order of "
        "the data's classes and without those that the data has not",
    )

    size: Literal["data", "own"] | Size = Field(
        "data",
        description="own: it goes on reading images of the size that it was made for, to which it resizes the data's; "
        "data: it reads the data's as they are; 64 or 64x48: it resizes them to that",
    )

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.models.foresight import tentatively

        spec = spec_for("network", self.network, specs, context)
        if spec is None:
            return None
        spec, data = self._resizing(spec), context.data
        written, kept = self._adapted(spec, data), self._kept(spec, data)
        if kept.told:
            context.caveats.append(kept.told)
        with tentatively():
            self._fitted(spec, spec.build(), data, kept)
        return written

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        import torch

        from nasdistill.models.base import save_network
        from nasdistill.models.inspection import described

        data = context.data
        torch.manual_seed(context.seed)  # a new head must not depend on what this process did before
        spec, network = network_for("network", self.network, inputs, context, "trained")
        spec = self._resizing(spec)
        written, kept = self._adapted(spec, data), self._kept(spec, data)
        if kept.told:
            log.info("%s", kept.told)
        network, drawn = self._fitted(spec, network, data, kept)
        if written.model is not spec.model:
            network = written.model.of(network)
        log.info("drawn anew: %s; all other weights are those of %r", ", ".join(drawn) or "nothing", self.network)
        save_network(context.folder, written, network)
        return Outcome({"drawn": drawn, **described(network, written.reads, timed=True)})

    def _resizing(self, spec: NetworkSpec) -> NetworkSpec:
        """The spec of the network as it reads images that need not be of its own size."""
        if self.size == "data":
            return spec
        size = spec.reads[1:] if self.size == "own" else self.size
        return spec.model_copy(update={"model": spec.model.model_copy(update={"size": size})})

    def _kept(self, spec: NetworkSpec, data: Data) -> ClassMatch:
        """Which of the head's outputs stay.

        Raises:
            SpecError: at `head`: the data set has other classes than the network knows.
        """
        if self.head == "new":
            return ClassMatch(None, None)
        if spec.labels is None or self.classes == "by-position":
            fits = spec.classes == len(data.classes)
        else:
            fits = places_of(data.classes, spec.labels) is not None
        if not fits:
            known = names_in_words(spec.labels) if spec.labels else f"{spec.classes} classes"
            ours = names_in_words(data.classes)
            problem = f"{self.network!r} knows {known}, the data set has {ours}; `new` fits it to them"
            raise SpecError(problem, ("head",))
        return match_classes("network", self.network, spec, data.classes, self.classes)

    def _fitted(
        self, spec: NetworkSpec, network: nn.Module, data: Data, kept: ClassMatch
    ) -> tuple[nn.Module, list[str]]:
        """The network for the data's images and classes, and the names of the tensors that were drawn."""
        from nasdistill.models.adapted import refitted, with_outputs

        with found_at("network"):
            if kept.outputs:
                spec, network = with_outputs(spec, network, kept.outputs)
            _spec, network, drawn = refitted(spec, network, data.shape[1:], len(data.classes), self.head == "new")
        return network, drawn

    def _adapted(self, spec: NetworkSpec, data: Data) -> NetworkSpec:
        """The spec of the network after it was adapted.

        Raises:
            SpecError: it cannot be: nobody knows how it reads other channels.
        """
        from nasdistill.models.adapted import Adapted
        from nasdistill.models.base import NetworkSpec

        own = spec.normalisation
        if own is None and spec.shape[0] != data.shape[0]:
            raise SpecError(
                f"{self.network!r} reads {spec.shape[0]} channel(s) and the data set has {data.shape[0]}; what its own "
                "images were normalised with must be known for that (`import --mean --std`)",
                ("network",),
            )
        model = spec.model
        if own is not None and own != data.normalisation:
            model = Adapted(model=model, own=own, normalisation=data.normalisation)
        return NetworkSpec.for_data(model, data)
