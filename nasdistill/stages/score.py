"""Stage `score`: what networks promise before they are trained."""

from __future__ import annotations

import logging
from typing import Annotated, Any, ClassVar

from pydantic import Field

from nasdistill.errors import UserError, found_at
from nasdistill.search.untrained import ProxyOptions, standings
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs, Stage, path_of
from nasdistill.stages.networks import network_for_data, spec_for_data
from nasdistill.storage import write_json

log = logging.getLogger(__name__)

SCORES = "scores.json"


@STAGES.register("score")
class Score(ProxyOptions, Stage):
    """Score networks before they are trained, by proxies that take one batch of images and seconds.

    All are scored with freshly drawn weights on the same images. Parameters and multiply-adds stand beside the scores:
    they are proxies too, and hard to beat.
    """

    source = "Abdelfattah et al. 2021, Zero-Cost Proxies for Lightweight NAS (arXiv:2101.08134)"
    makes = "metrics"
    positional: ClassVar[tuple[str, ...]] = ("models",)

    models: Annotated[list[str | dict[str, Any]], Reference("architecture", or_model=True)] = Field(
        min_length=1,
        description="what is scored: stages, artifacts' folders, or models such as wrn-16-1 or {name: wrn, depth: 16}",
        examples=[["wrn-16-1", "resnet-20", "darts-v2-16-8"]],
    )

    def foresee(self, specs: Specs, context: Context) -> None:
        from nasdistill.models.foresight import tentatively
        from nasdistill.search.proxies import refuse_binary

        _refuse_texts(context)
        for number, model in enumerate(self.models):
            spec = spec_for_data(("models", number), model, specs, context, "fresh")
            if spec is not None:
                with found_at("models", number), tentatively():
                    refuse_binary(spec.build())

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.inspection import count_parameters, multiply_adds

        _refuse_texts(context)
        batch = self.batch(context.data, context.seed, context.engine)
        networks: list[dict[str, Any]] = []
        with context.records.progress(len(self.models), unit="network") as progress:
            for number, model in enumerate(self.models):
                place = ("models", number)
                spec, network = network_for_data(place, model, inputs, context, "fresh")
                with found_at(*path_of(place)):
                    found = self.scores(context.engine.place(network), batch)
                for name in (name for name, score in found.items() if score.value is None):
                    log.warning("%s has no score by %s: it is not finite", model, name)
                networks.append(
                    {
                        "model": model,
                        "parameters": count_parameters(network),
                        "multiply_adds": multiply_adds(network, spec.reads),
                        "scores": {name: score.value for name, score in found.items()},
                        "seconds": {name: score.seconds for name, score in found.items()},
                    }
                )
                progress.step()
        for of_network, standing in zip(networks, standings([each["scores"] for each in networks]), strict=True):
            of_network["standing"] = standing
        write_json(context.folder / SCORES, {"images": len(batch.labels), "networks": networks})
        return Outcome({"networks": len(networks)})


def _refuse_texts(context: Context) -> None:
    if context.data.words is not None:
        raise UserError("`score` reads gradients and ReLUs of networks for images, and the data set holds texts")
