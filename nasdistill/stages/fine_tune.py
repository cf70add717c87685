"""Stage `fine-tune`: train a network on, that was trained on other images: first its new head, then all of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nasdistill.errors import SpecError, found_at
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.networks import network_for_data, spec_for_data
from nasdistill.stages.training import (
    ShownOptions,
    TrainsOnLabels,
    batches_to_train_on,
    foreseen,
    train_task,
    write_attention,
)
from nasdistill.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.models.base import NetworkSpec
    from nasdistill.training.batches import Batches

log = logging.getLogger(__name__)


class FineTuneOptions(MatchesClasses, ShownOptions, TrainingSettings):
    """Options of the stage beside the model."""

    epochs: int = Field(5, gt=0, description="passes over the training images in which all layers learn")
    batch_size: int = Field(32, gt=0, description="images per step, over all devices together")
    optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        {"name": "adamw", "lr": 5e-4}, validate_default=True, description="what updates the weights"
    )
    head_epochs: int = Field(
        1, ge=0, description="passes before these in which the head alone learns, on the body as it comes"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="the learning rate of the first layer, as a part of the last one's; from layer to layer, in the "
        "order in which an image meets them, it rises by the same factor",
    )
    freeze_batch_norm: bool = Field(
        False, description="keep the statistics, scales and shifts of all batch norms as they come"
    )
    freeze_to: str | None = Field(
        None,
        description="keep all layers as they come that an image meets up to the end of this module, e.g. "
        "network.blocks.2; `inspect` lists paths",
    )


@STAGES.register("fine-tune")
class FineTune(FineTuneOptions, TrainsOnLabels):
    """Train a network on that was trained on other images: first its head alone, then all of it, gently.

    It reads a model with `pretrained` weights, or a trained network that the stage `adapt` gave a head for the data's
    classes. The result is a network like any other.
    """

    source = "Howard and Ruder 2018, Universal Language Model Fine-tuning (arXiv:1801.06146), section 3.2"
    makes = "network"

    model: Annotated[str | dict[str, Any], Reference("network", or_model=True)] = Field(
        description="what is trained on: a stage or an artifact's folder with a trained network, or a model with "
        "trained weights such as {name: timm, architecture: tf_efficientnet_lite0, pretrained: FILE}",
        examples=["{name: torchvision, architecture: resnet18, pretrained: true}"],
    )
    without_weights: Literal["stop", "leave-out"] = Field(
        "stop",
        description="what a model to which no `pretrained` weights are given does: stop the run before it begins, or "
        "be left out, so that a recipe goes with and without",
    )

    def reason_to_leave_out(self, inputs: Inputs) -> str | None:
        given = self.model.get("pretrained") if isinstance(self.model, dict) else None
        if self.without_weights == "stop" or "model" in inputs or given is not None:
            return None
        return "no `pretrained` weights are given"

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.models.base import MODELS
        from nasdistill.models.foresight import tentatively

        if "model" not in specs and MODELS.parse(self.model).pretrained_content() is None:
            raise SpecError(f"{self.model!r} has no trained weights; its option `pretrained` gives some", ("model",))
        spec = spec_for_data("model", self.model, specs, context, "trained", self.classes)
        if spec is not None:
            with tentatively():
                self._factors(spec, spec.build())
        return foreseen(self, spec, context)

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.distill.attention_maps import images_to_show
        from nasdistill.training.fine_tuning import FineTuning

        show = images_to_show(self.show, context.data.test.labels)
        spec, network = network_for_data("model", self.model, inputs, context, "trained", self.classes, learns=True)
        factors = self._factors(spec, network)
        batches = batches_to_train_on(self, context, balance=self.balance)
        if self.head_epochs:
            network.load_state_dict(self._with_trained_head(spec, network, batches, context).state_dict())
        task = FineTuning(
            network, factors, label_smoothing=self.label_smoothing, auxiliary_weight=self.auxiliary_weight
        )
        outcome = train_task(task, spec, self, context, batches)
        network.requires_grad_(True)
        write_attention(show, context, network)
        return outcome

    def _with_trained_head(
        self, spec: NetworkSpec, network: nn.Module, batches: Batches, context: Context
    ) -> nn.Module:
        """A copy of the network in which what depends on the number of classes has learned, and nothing else."""
        import copy

        import torch

        from nasdistill.data.loaders import evaluation_batches
        from nasdistill.models.adapted import head_of
        from nasdistill.training.fine_tuning import FineTuning
        from nasdistill.training.fit import fit

        head = head_of(spec)
        task = FineTuning(
            copy.deepcopy(network),
            {name: float(name in head) for name, _ in network.named_parameters()},
            label_smoothing=self.label_smoothing,
            auxiliary_weight=self.auxiliary_weight,
        )
        once = {"epochs": self.head_epochs, "evaluate_every": self.head_epochs, "keep": "last"}
        settings = self.model_copy(update={**once, "warmup": 0.0, "ema": None, "patience": None})
        torch.manual_seed(context.replicate_seed)
        fitted = fit(
            task,
            batches,
            evaluation_batches(context.data.validation, context.data, context.engine),
            evaluation_batches(context.data.test, context.data, context.engine),
            settings,
            context.engine,
            context.checkpoints("head"),
            context.records.part("head"),
        )
        log.info("the head alone: %.2f %% of the validation images are recognised", fitted.validation["score"])
        return task.network

    def _factors(self, spec: NetworkSpec, network: nn.Module) -> dict[str, float]:
        """Of the learning rate, by the names of parameters.

        Raises:
            SpecError: there is no module `freeze_to`, or nothing is left to learn.
        """
        from nasdistill.models.depth import depths, up_to
        from nasdistill.training.fine_tuning import batch_norms

        factors = {name: self.layer_decay ** (1 - depth) for name, depth in depths(network, spec.shape).items()}
        kept: set[str] = set()
        if self.freeze_to is not None:
            with found_at("freeze_to"):
                kept |= up_to(self.freeze_to, network, spec.shape)
        if self.freeze_batch_norm:
            for path, norm in batch_norms(network).items():
                kept |= {f"{path}.{name}" for name, _ in norm.named_parameters()}
        if kept >= factors.keys():
            raise SpecError(f"nothing is left to learn after {self.freeze_to!r}", ("freeze_to",))
        return {name: 0.0 if name in kept else factor for name, factor in factors.items()}
