"""Stage `train`: train a network on labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from nasdistill.errors import SpecError, found_at
from nasdistill.stages.base import STAGES, Context, Foreseen, Inputs, Like, Outcome, Reference, Specs
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.growing import GrowthOptions, measured_images
from nasdistill.stages.networks import Weights, network_for_data, spec_for_data
from nasdistill.stages.training import (
    ShownOptions,
    TrainsOnLabels,
    foreseen,
    train_task,
    training_data,
    write_attention,
)
from nasdistill.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.growth.while_training import GrowthWhileTraining
    from nasdistill.models.base import NetworkSpec


class Growing(GrowthOptions):
    """How a network grows while it trains."""

    after: list[Annotated[int, Field(gt=0)]] = Field(
        min_length=1,
        description="numbers of epochs after which it is widened, each time by the same factor, e.g. [5, 10]",
    )

    @model_validator(mode="after")
    def _check(self) -> Growing:
        if self.after != sorted(set(self.after)):
            raise SpecError(f"must ascend, got {self.after}", ("after",))
        if self.method.changes_layers:
            problem = f"{self.method.registered_name!r} changes layers, and a network that trains can only become wider"
            raise SpecError(problem, ("method",))
        if self.measure == "latency":
            problem = "no two measurements are alike, so that no training could be repeated; choose flops or params"
            raise SpecError(problem, ("measure",))
        return self


class TrainOptions(MatchesClasses, ShownOptions, TrainingSettings):
    """Options of the stage beside the model."""

    fresh: bool = Field(False, description="draw new weights even where the model comes with trained ones")
    show_points: list[str] | None = Field(
        None,
        min_length=1,
        description="module paths whose attention maps are shown, e.g. those that `attention` of another stage reads; "
        "the network's feature points if left out",
    )
    grow: Growing | None = Field(
        None,
        description="widen the network between epochs, e.g. {after: [5, 10], ratio: 2.0}: it computes what it did, and "
        "optimiser and average grow along; the epoch whose weights are kept is one at full size",
    )

    @model_validator(mode="after")
    def _can_grow(self) -> TrainOptions:
        if self.grow is None:
            return self
        if self.grow.after[-1] >= self.epochs:
            problem = f"the last epoch is number {self.epochs}, so that nothing is trained after {self.grow.after[-1]}"
            raise SpecError(problem, ("grow", "after"))
        if self.optimizer.state_degrees is None:
            problem = f"{self.optimizer.registered_name!r} does not tell how what it remembers grows (`state_degrees`)"
            raise SpecError(problem, ("optimizer",))
        return self


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

    def foresee(self, specs: Specs, context: Context) -> Foreseen:
        from nasdistill.models.foresight import tentatively

        spec = spec_for_data("model", self.model, specs, context, self._weights, self.classes)
        if spec is not None and self.show_points:
            with tentatively():
                self._check_points(spec.build())
        if spec is not None and self.grow is not None:
            with found_at("grow"):
                self.grow.method.while_training(self.grow.after, spec)
        found = foreseen(self, spec, context)
        return Like(found) if found is not None and self.grow is not None else found

    def _check_points(self, network: nn.Module) -> None:
        from nasdistill.distill.taps import Taps

        with found_at("show_points"):
            Taps(network, self.show_points or ())

    def _growth(self, spec: NetworkSpec, context: Context) -> GrowthWhileTraining | None:
        if self.grow is None:
            return None
        images = measured_images(training_data(self, context), context, self.grow.images, self.grow.batch_size)
        with found_at("grow"):
            growth: GrowthWhileTraining = self.grow.method.while_training(
                self.grow.after, spec, images, context.replicate_seed
            )
        return growth

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.distill.attention_maps import images_to_show
        from nasdistill.training.tasks import Supervised

        show = images_to_show(self.show, context.data.test.labels)
        spec, network = network_for_data("model", self.model, inputs, context, self._weights, self.classes, learns=True)
        self._check_points(network)
        task = Supervised(network, label_smoothing=self.label_smoothing, auxiliary_weight=self.auxiliary_weight)
        outcome = train_task(task, spec, self, context, growth=self._growth(spec, context))
        write_attention(show, context, task.network, points=self.show_points)
        return outcome
