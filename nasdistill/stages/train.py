"""Stage `train`: train a network on labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nasdistill.errors import found_at
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.networks import Weights, network_for_data, spec_for_data, trained_on
from nasdistill.stages.training import ShownOptions, TrainsOnLabels, train_task, training_data, write_attention
from nasdistill.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.models.base import NetworkSpec


class TrainOptions(MatchesClasses, ShownOptions, TrainingSettings):
    """Options of the stage beside the model."""

    fresh: bool = Field(False, description="draw new weights even where the model comes with trained ones")
    show_points: list[str] | None = Field(
        None,
        min_length=1,
        description="module paths whose attention maps are shown, e.g. those that `attention` of another stage reads; "
        "the network's feature points if left out",
    )


@STAGES.register("train")
class Train(TrainOptions, TrainsOnLabels):
    """Train a network on the labels, with cross-entropy.

    Accuracy on the test images is reported of the last epoch, of the best one, and of the one that the validation
    images select, whose weights are kept.
    """

    makes = "network"

    model: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        description="what is trained: a stage, an artifact's folder, or a model such as wrn-16-1 "
        "or {name: wrn, depth: 16, width: 1}"
    )

    @property
    def _weights(self) -> Weights:
        return "fresh" if self.fresh else "any"

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.models.foresight import tentatively

        spec = spec_for_data("model", self.model, specs, context, self._weights, self.classes)
        if spec is not None and self.show_points:
            with tentatively():
                self._check_points(spec.build())
        return spec and trained_on(spec, training_data(self, context))

    def _check_points(self, network: nn.Module) -> None:
        from nasdistill.distill.taps import Taps

        with found_at("show_points"):
            Taps(network, self.show_points or ())

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.distill.attention_maps import images_to_show
        from nasdistill.training.tasks import Supervised

        show = images_to_show(self.show, context.data.test.labels)
        spec, network = network_for_data("model", self.model, inputs, context, self._weights, self.classes)
        self._check_points(network)
        task = Supervised(network, label_smoothing=self.label_smoothing, auxiliary_weight=self.auxiliary_weight)
        outcome = train_task(task, spec, self, context)
        write_attention(show, context, network, points=self.show_points)
        return outcome
