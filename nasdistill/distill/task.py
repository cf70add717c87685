"""Distillation as a task: a student, its frozen teachers, and the weighted objectives between them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.learned import LearnedLoss, Preview
from nasdistill.distill.objectives import Objective, Outputs, Term
from nasdistill.distill.taps import Taps
from nasdistill.distill.teacher import Teacher, TeacherEnsemble, objective_bindings, unpacked
from nasdistill.errors import UserError, found_at, written_at
from nasdistill.models.ensemble import Average
from nasdistill.training.batches import Batch, Batches
from nasdistill.training.losses import checked_loss
from nasdistill.training.modes import in_evaluation_mode
from nasdistill.training.tasks import Task, label_loss, logits_with_auxiliary

log = logging.getLogger(__name__)


@dataclass
class WeightedTerm:
    """A term of the sum. What it reads is the teachers' output at a place, see `bindings`; its weight rises first."""

    objective: Objective
    term: Term
    place: int
    weight: float
    rise: float = 1.0


class Distillation(Task):
    """The weighted losses of a student that learns from one frozen teacher or several.

    Teachers see the very images that the student sees, augmentation included: in evaluation mode, without gradients,
    whatever mode this task is in. They move with the task but are none of its modules, so that they are neither
    optimised nor written to checkpoints. Objectives on logits learn from the ensemble of all teachers; those that
    read features learn from each teacher, with its share of their weight.

    Attributes:
        terms: by name; a name that is there already gets a number.
        answers: the student's logits of the batch that it saw last, [N, classes].

    Args:
        network: the student.
        teachers: at least one; copies of them teach.
        objectives: with the label term, see `objectives.cross_entropy.with_label_term`; those of weight 0 are left out.
        shape: channels, height and width of the images.
        normalisation: of the images; None where it is not known.
        average: of several teachers, see `nasdistill.models.ensemble.average_logits`.
        auxiliary_weight: of the label term of the student's auxiliary head, if it has one that no objective teaches.
        label_smoothing: of that term.

    Raises:
        UserError: a teacher and the student share parameters, or an objective does not apply to them.
    """

    def __init__(
        self,
        network: nn.Module,
        teachers: Sequence[Teacher],
        objectives: Sequence[Objective],
        shape: Shape,
        *,
        normalisation: Normalisation | None = None,
        average: Average = "probabilities",
        auxiliary_weight: float = 0.4,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(network)
        own = {id(parameter) for parameter in network.parameters()}
        if any(id(parameter) in own for teacher in teachers for parameter in teacher.network.parameters()):
            raise UserError("the teacher shares parameters with the student, so it would change while it teaches")
        self.auxiliary_weight = auxiliary_weight
        self.label_smoothing = label_smoothing
        self.answers = torch.empty(0)

        total = sum(teacher.weight for teacher in teachers)
        self.terms: dict[str, WeightedTerm] = {}
        counting = [objective for objective in objectives if objective.weight]
        if not counting:
            raise UserError("nothing is to be learned: every objective has weight 0")
        with found_at("objectives"):
            for objective, term, place in objective_bindings(counting, network, teachers, shape):
                share = teachers[place - 1].weight / total if place else 1.0
                name = _unused(objective.registered_name, self.terms)
                self.terms[name] = WeightedTerm(objective, term, place, share * objective.weight)
            bound = [(part.term, part.place) for part in self.terms.values()]
            self._taps = Taps(network, [path for term, _place in bound for path in term.student_points], "student")
            self.teacher_ensemble = TeacherEnsemble(teachers, bound, shape, normalisation, average)
        log.info(
            "the student minimises %s", " + ".join(f"{part.weight:g} * {name}" for name, part in self.terms.items())
        )
        self._labels_teach_auxiliary = not any(part.objective.teaches_token for part in self.terms.values())
        self.leaves_weights = all(part.term.student_points for part in self.terms.values())
        self.learned = nn.ModuleDict(
            {name: part.term.loss for name, part in self.terms.items() if isinstance(part.term.loss, nn.Module)}
        )

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        teacher_outputs = unpacked(batch.taught) if batch.taught else self.teacher_ensemble(batch.images)
        with self._taps as features:
            logits, auxiliary = logits_with_auxiliary(self.network, batch.images)
        student = Outputs(logits, features)
        self.answers = logits.detach()
        losses = {
            name: part.rise * part.weight * _checked(name, part, student, teacher_outputs[part.place], batch)
            for name, part in self.terms.items()
        }
        if auxiliary is not None and self._labels_teach_auxiliary:
            losses["auxiliary"] = self.auxiliary_weight * label_loss(auxiliary, batch, self.label_smoothing)
        self._report(student, teacher_outputs, batch)
        return losses

    @torch.no_grad()
    def _report(self, student: Outputs, teacher_outputs: Sequence[Outputs], batch: Batch) -> None:
        """How often student and teachers name the same class, in percent, and what the objectives report."""
        same = student.logits.argmax(dim=1) == teacher_outputs[0].logits.argmax(dim=1)
        self.report("agreement/train", 100 * same.float().mean())
        for name, part in self.terms.items():
            for figure, value in part.objective.report(student, teacher_outputs[part.place], batch).items():
                self.report(f"{name}/{figure}", value)

    def prepare(self, batches: Batches, seed: int) -> None:
        """Let the losses that learn see the training images, before training; see `LearnedLoss.prepare`.

        Args:
            batches: the training images in a fixed order, without augmentation.
        """
        for name, loss in self.learned_losses():

            def outputs(place: int = self.terms[name].place) -> Iterator[tuple[Outputs, Outputs, Batch]]:
                for batch in batches.epoch(0):
                    with in_evaluation_mode(self.network), torch.no_grad(), self._taps as features:
                        student = Outputs(self.network(batch.images).float(), features)
                    yield student, self.teacher_ensemble(batch.images)[place], batch

            with found_at("objectives"):
                loss.prepare(Preview(batches.labels, outputs, seed))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        super().begin_epoch(epoch, epochs)
        for part in self.terms.values():
            warmup = part.objective.warmup
            part.rise = min(1.0, (epoch + 1) / warmup) if warmup else 1.0
        for _name, loss in self.learned_losses():
            loss.begin_epoch(epoch)

    def end_epoch(self) -> dict[str, float]:
        return {
            f"{name}/{figure}": value
            for name, loss in self.learned_losses()
            for figure, value in loss.end_epoch().items()
        }

    def stop_reason(self) -> str | None:
        reasons = (loss.stop_reason() for _name, loss in self.learned_losses())
        return next((reason for reason in reasons if reason is not None), None)

    def learned_losses(self) -> Iterator[tuple[str, LearnedLoss]]:
        return ((name, loss) for name, loss in self.learned.items() if isinstance(loss, LearnedLoss))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Device, precision and memory format: the teachers go along."""
        self.teacher_ensemble.apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def _checked(name: str, part: WeightedTerm, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
    """The unweighted loss of a term.

    Raises:
        UserError: it is none, or the labels are mixed and the term needs classes.
    """
    by = type(part.objective)
    if part.objective.needs_classes and batch.labels.is_floating_point():
        raise UserError(
            f"the objective {name!r} ({written_at(by)}) needs one class for each image, and the "
            "images of this batch are mixed"
        )
    return checked_loss(part.term.loss(student, teacher, batch), f"objective {name!r}", by)


def _unused(name: str, taken: Container[str]) -> str:
    number = 1
    while (unused := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return unused
