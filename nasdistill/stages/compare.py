"""Stage `compare`: how close two trained networks are, on test images and on the way from one class to another."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from nasdistill.errors import SpecError, UserError
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Specs, Stage
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.networks import network_for_data, spec_for_data
from nasdistill.storage import write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdistill.data.base import Normalisation
    from nasdistill.models.base import NetworkSpec
    from nasdistill.training.engine import Engine
    from nasdistill.zero_shot.transition import Network

log = logging.getLogger(__name__)

TRANSITION = "transition.json"


@STAGES.register("compare")
class Compare(MatchesClasses, Stage):
    """Measure how close two trained networks are: transition curves and their mean error, agreement, divergence.

    Test images that both assign to the same class are changed, step by step, until the student assigns them to another.
    The teacher's probability of that class on the way shows whether its decision boundaries are where the student's
    are. The student's gradient is followed, so the order of the two matters. Nothing is trained and nothing selected.
    """

    source = (
        "Micaelli, Storkey 2019, Zero-shot Knowledge Transfer via Adversarial Belief Matching (arXiv:1905.09768), "
        "algorithm 2"
    )
    makes = "comparison"
    positional: ClassVar[tuple[str, ...]] = ("student", "teacher")

    student: Annotated[str, Reference("network")] = Field(
        description="the network whose gradient is followed: a stage or an artifact's folder with a trained network",
        examples=["runs/distill/stages/distill"],
    )
    teacher: Annotated[str, Reference("network")] = Field(
        description="what it is compared with: a stage or an artifact's folder with a trained network"
    )
    images: int = Field(
        1000, gt=0, description="test images to start from, drawn by the seed among those on which both agree"
    )
    steps: int = Field(100, gt=0, description="steps of each path")
    step_size: float = Field(1.0, gt=0, description="factor of the gradient in a step")
    batch_size: int = Field(250, gt=0, description="paths walked together, at most; affects only speed and memory")
    reduced_precision: Literal["none", "teacher", "both"] = Field(
        "none",
        description="whose passes take the engine's precision instead of float32; `teacher` leaves the paths alone",
    )

    def foresee(self, specs: Specs, context: Context) -> None:
        _refuse_texts(context)
        for field, name in (("student", self.student), ("teacher", self.teacher)):
            spec_for_data(field, name, specs, context, "trained", self.classes)

    def run(self, inputs: Inputs, context: Context) -> Outcome:

        import torch

        from nasdistill.data.loaders import evaluation_batches
        from nasdistill.data.seeds import generator_for
        from nasdistill.distill.logits import softened_divergence
        from nasdistill.zero_shot.transition import transition_curves

        _refuse_texts(context)
        engine = context.engine
        ours, our_network = network_for_data("student", self.student, inputs, context, "trained", self.classes)
        theirs, their_network = network_for_data("teacher", self.teacher, inputs, context, "trained", self.classes)
        data = context.data.normalised_for(ours.normalisation)
        student = _frozen(our_network, ours, data.normalisation, engine)
        teacher = _frozen(their_network, theirs, data.normalisation, engine)

        with torch.no_grad():
            outputs = [
                (student(batch.images), teacher(batch.images), batch.labels)
                for batch in evaluation_batches(data.test, data, engine).epoch(0)
            ]
        our_logits, their_logits, truth = (
            engine.broadcast(torch.cat(column)).cpu() for column in zip(*outputs, strict=True)
        )
        our_answers, their_answers = our_logits.argmax(1), their_logits.argmax(1)
        alike = our_answers == their_answers
        drawn = torch.randperm(len(truth), generator=generator_for(context.seed, "images to compare on"))
        chosen = drawn[alike[drawn]][: self.images]
        if len(chosen) < self.images:
            agreed = f"the networks agree on {len(chosen)} of {len(truth)} test images"
            if not len(chosen):
                raise UserError(f"{agreed}, so that there is none to start from")
            log.warning("%s, fewer than the %d that were asked for; all of them are used", agreed, self.images)

        def images(places: torch.Tensor) -> torch.Tensor:
            picked = data.test.subset(chosen[places])
            (batch,) = evaluation_batches(picked, data, engine, len(picked)).epoch(0)
            return batch.images

        curves = transition_curves(
            _in_precision_of(engine, student) if self.reduced_precision == "both" else student,
            teacher if self.reduced_precision == "none" else _in_precision_of(engine, teacher),
            images,
            our_answers[chosen],
            len(data.classes),
            steps=self.steps,
            step_size=self.step_size,
            batch_size=self.batch_size,
            checkpoints=context.checkpoints(),
            records=context.records,
        )
        error = curves.mean_transition_error
        if not math.isfinite(error):
            raise SpecError(f"images grew beyond all bounds; take a step_size below {self.step_size:g}", ("step_size",))
        told = curves.plain(data.classes)
        write_json(context.folder / TRANSITION, told)
        for step in range(self.steps):
            context.records.scalars({f"transition/{who}": told[who][step] for who in self.positional}, step)
        return Outcome(
            {
                "mean_transition_error": error,
                "images": len(chosen),
                "agreement": _percent(alike),
                "kl": float(softened_divergence(our_logits, their_logits).double().mean()),
                "student_accuracy": _percent(our_answers == truth),
                "teacher_accuracy": _percent(their_answers == truth),
            }
        )


def _refuse_texts(context: Context) -> None:
    if context.data.words is not None:
        raise UserError("`compare` changes images step by step, and between two tokens of a text there is no step")


def _frozen(network: nn.Module, spec: NetworkSpec, normalisation: Normalisation, engine: Engine) -> Network:
    """A network at work on images with a normalisation that may be another one's."""
    from nasdistill.distill.teacher import FrozenTeacher, Teacher

    frozen = FrozenTeacher(Teacher(network, spec.normalisation), spec.shape, (), normalisation)
    frozen.apply(lambda tensor: tensor.to(engine.device))
    engine.place(frozen.network)
    return lambda images: frozen(images).logits


def _in_precision_of(engine: Engine, network: Network) -> Network:
    def logits(images: torch.Tensor) -> torch.Tensor:
        with engine.autocast():
            return network(images)

    return logits


def _percent(holds: torch.Tensor) -> float:
    return 100 * float(holds.double().mean())
