"""Stage `evaluate`: what a trained network scores and costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs, Stage
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.mistakes import write_confusion, write_mistakes
from nasdistill.stages.networks import network_for_data, spec_for_data, warn_of_other_split


class EvaluateOptions(MatchesClasses):
    """Options of the stage beside the network."""

    part: Literal["test", "validation", "train"] = Field("test", description="which images of the data set")
    batch_size: int | None = Field(
        None,
        gt=0,
        description="images at a time; affects only speed and memory. By default (null) 500, of more than 32x32 pixels "
        "fewer, so that a batch has no more pixels",
    )


@STAGES.register("evaluate")
class Evaluate(EvaluateOptions, Stage):
    """Score a trained network: accuracy, top-5, loss, calibration error, confusion; size and latency on this machine.

    Beside the accuracy over images stands that over classes, and of two classes the area under the ROC curve.

    Images are normalised as the network was trained, which its spec says, whatever the data set's own numbers are, and
    texts are read with its vocabulary.
    """

    source = "calibration error: Guo et al. 2017 (arXiv:1706.04599)"
    makes = "metrics"

    network: Annotated[str, Reference("network")] = Field(
        description="what is scored: a stage or an artifact's folder with a trained network"
    )

    def is_scored(self) -> bool:
        return self.part == "validation"

    def foresee(self, specs: Specs, context: Context) -> None:
        spec_for_data("network", self.network, specs, context, "trained", self.classes, own_words=True)

    def run(self, inputs: Inputs, context: Context) -> Outcome:

        from nasdistill.data.loaders import evaluation_batches
        from nasdistill.data.words import data_read_with
        from nasdistill.models.inspection import described
        from nasdistill.training.metrics import logits_of, score

        spec, network = network_for_data(
            "network", self.network, inputs, context, "trained", self.classes, own_words=True
        )
        if self.part == "validation":
            warn_of_other_split("network", self.network, inputs, context)
        data, engine = data_read_with(context.data, spec.vocabulary), context.engine
        data = data.normalised_for(spec.normalisation)
        parts = {"test": data.test, "validation": data.validation, "train": data.train}
        batches = evaluation_batches(parts[self.part], data, engine, self.batch_size)
        logits, truth = logits_of(engine.place(network), batches, engine, full_precision=True)
        found = score(logits, truth)
        write_confusion(context.folder, data.classes, found)
        write_mistakes(context.folder, parts[self.part], data, engine, logits)
        return Outcome(
            {
                **found.without_epochs(),
                **({"validation": {"score": found.accuracy, "loss": found.loss}} if self.is_scored() else {}),
                "part": self.part,
                "images": len(parts[self.part]),
                **described(network, spec.reads, timed=True),
            }
        )
