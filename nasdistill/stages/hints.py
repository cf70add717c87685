"""Stage `hints`: train a student's lower half to predict a layer of its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from nasdistill.distill.hint_options import HintOptions
from nasdistill.errors import SpecError, found_at
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs, Stage
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.networks import network_for_data, spec_for_data, trained_on
from nasdistill.stages.training import HISTORY, batches_to_train_on, foreseen
from nasdistill.storage import write_json
from nasdistill.training.settings import LoopSettings

if TYPE_CHECKING:
    from nasdistill.distill.objectives.hints import Hints
    from nasdistill.models.base import NetworkSpec


@STAGES.register("hints")
class HintStage(MatchesClasses, HintOptions, LoopSettings, Stage):
    """Train a student's layers up to one in its middle on what a regressor needs to predict the teacher's middle layer.

    The first of the two stages of FitNets; `distill` goes on with the student that this one writes. Layers above the
    guided one stay as they are, so there is no accuracy yet: validation images select by the loss of the hints. The
    regressor is dropped.
    """

    source = "Romero et al. 2015, FitNets: Hints for Thin Deep Nets (arXiv:1412.6550), section 2.3"
    makes = "network"

    student: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        description="who learns: a stage, an artifact's folder, or a model; starts from its trained weights, if any"
    )
    teacher: Annotated[str, Reference("network")] = Field(
        description="who gives the hints: a stage or an artifact's folder with a trained network"
    )

    @model_validator(mode="after")
    def _two_networks(self) -> HintStage:
        if self.student == self.teacher:
            raise SpecError(f"the student is its own teacher {self.student!r}", ("teacher",))
        return self

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.distill.foresight import check_pair

        teacher = spec_for_data("teacher", self.teacher, specs, context, "trained", self.classes)
        student = spec_for_data("student", self.student, specs, context, classes=self.classes)
        if teacher and student:
            with found_at("pair"):
                check_pair([self._hints], student, [teacher])
        return foreseen(self, student, context)

    @property
    def _hints(self) -> Hints:
        from nasdistill.distill.objectives.hints import Hints

        return Hints(pair=self.pair, form=self.form, relu=self.relu)

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        import torch

        from nasdistill.data.loaders import evaluation_batches
        from nasdistill.distill.hinting import HintTraining
        from nasdistill.distill.teacher import Teacher
        from nasdistill.models.base import save_network
        from nasdistill.models.inspection import described
        from nasdistill.training.fit import fit

        data, engine = context.data, context.engine
        # The teacher first, so that the student is drawn from the seed alone.
        taught, network = network_for_data("teacher", self.teacher, inputs, context, "trained", self.classes)
        spec, student = network_for_data("student", self.student, inputs, context, classes=self.classes, learns=True)
        torch.manual_seed(context.seed)  # the regressor and dropout must not depend on what this process did before
        with found_at("pair"):
            task = HintTraining(
                student, Teacher(network, taught.normalisation), self._hints, spec.shape, data.normalisation
            )
        fitted = fit(
            task,
            batches_to_train_on(self, context),
            evaluation_batches(data.validation, data, engine),
            evaluation_batches(data.test, data, engine),
            self,
            engine,
            context.checkpoints(),
            context.records,
        )
        written = trained_on(spec, data)
        save_network(context.folder, written, student)
        write_json(context.folder / HISTORY, fitted.history)
        loss = dict(fitted.history["curves"]["validation/loss"])
        return Outcome(
            {
                "hint_loss": loss[fitted.best_epoch],
                "best_epoch": fitted.best_epoch,
                **described(student, spec.shape),
                **({} if fitted.stopped is None else {"stopped": fitted.stopped}),
                **fitted.cost,
            }
        )
