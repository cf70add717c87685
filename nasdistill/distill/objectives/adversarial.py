"""Adversarial distillation: the student is to be taken for its teacher."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.discriminator import (
    Discriminator,
    Fooling,
    fooling_loss,
    telling_loss,
    told_apart,
    train_discriminator,
)
from nasdistill.distill.learned import LearnedLoss, Preview
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.taps import count_classes
from nasdistill.errors import UserError
from nasdistill.training.batches import NO_LABEL, Batch

log = logging.getLogger(__name__)


@OBJECTIVES.register("adversarial")
class Adversarial(Objective):
    """The student fools a discriminator that was trained to tell its logits from the teacher's.

    Before training starts, the discriminator learns from both networks' outputs on the training images; held-out images
    measure its accuracy. The student should be trained already. `fixed` is the published form; in `alternating` the
    discriminator goes on learning, with the student and by the same optimiser. Its accuracy is reported with each
    epoch. One that is fooled has no gradient left for the student, which goes on with its other objectives; with
    `stop_below` training ends there.
    """

    source = (
        "Mandal and Mandan, Smaller Networks for State of the Art Classification (`published`); "
        "Goodfellow et al., Generative Adversarial Nets (2014), section 3 (`non-saturating`)"
    )
    needs_training_set = True

    weight: float = Field(0.05, ge=0, description="beta of alpha*CE - beta*L_class; alpha is the label term's weight")
    form: Literal["fixed", "alternating"] = Field(
        "fixed", description="fixed: the discriminator stays as it was trained at first; alternating: it learns on"
    )
    fooling: Fooling = Field(
        "non-saturating",
        description="non-saturating: the discriminator's loss of the label teacher, which ends at 0 with its gradient; "
        "published: minus its loss of the label student, unbounded below, which destroys students",
    )
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (64, 64), description="units of each hidden layer of the discriminator"
    )
    steps: int = Field(1000, gt=0, description="steps that the discriminator is trained for before the student")
    lr: float = Field(1e-3, gt=0, description="learning rate of these steps, of Adam")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the training images that measures the discriminator")
    stop_below: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="end where the discriminator's accuracy is below this (0.5 is chance); 0 never does",
    )

    def caveat(self) -> str | None:
        if self.fooling != "published" or not self.weight:
            return None
        return (
            "the adversarial loss `fooling: published` has no lower bound, and against a fixed discriminator it "
            "destroys the student; `non-saturating`, the default, has the same aim and ends at 0"
        )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        return Term(Adversary(self, count_classes(student, shape)))


class Adversary(LearnedLoss):
    """The discriminator with its accuracy, and the student's loss against it."""

    accuracy: torch.Tensor
    accuracy_at_first: torch.Tensor
    right: torch.Tensor
    seen: torch.Tensor

    def __init__(self, settings: Adversarial, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.discriminator = Discriminator(classes, settings.hidden)
        # Of the last whole epoch; at first that of the images held out.
        self.register_buffer("accuracy", torch.tensor(1.0))
        self.register_buffer("accuracy_at_first", torch.tensor(1.0))
        self.register_buffer("right", torch.tensor(0))
        self.register_buffer("seen", torch.tensor(0))
        self._freeze()

    def _freeze(self) -> None:
        self.discriminator.requires_grad_(self.settings.form == "alternating")

    def prepare(self, preview: Preview) -> None:
        """Train the discriminator.

        Raises:
            UserError: it cannot tell the networks apart.
        """
        outputs = [
            (student.logits, teacher.logits, student.logits.argmax(1) == batch.labels)
            for student, teacher, batch in preview.outputs()
        ]
        student, teacher, right = (torch.cat(column) for column in zip(*outputs, strict=True))
        _warn_if_untrained(float(right.float().mean()), preview.labels)
        settings = self.settings
        self.discriminator.requires_grad_(True)
        accuracy = train_discriminator(
            self.discriminator,
            teacher,
            student,
            steps=settings.steps,
            lr=settings.lr,
            held_out=settings.held_out,
            generator=generator_for(preview.seed, "discriminator"),
        )
        self._freeze()
        self.accuracy.fill_(accuracy)
        self.accuracy_at_first.fill_(accuracy)
        log.info("adversarial: the discriminator's accuracy on held-out outputs is %.1f %%", 100 * accuracy)
        if (reason := self.stop_reason()) is not None:
            raise UserError(f"there is nothing to learn from the adversarial objective: {reason}")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        alternating = self.settings.form == "alternating"
        # In single precision: the discriminator was trained so, and costs next to nothing.
        with torch.autocast(student.logits.device.type, enabled=False):
            held = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
            scores = torch.func.functional_call(self.discriminator, held, (student.logits,))
            loss = fooling_loss(scores, self.settings.fooling)
            with torch.set_grad_enabled(alternating):
                of_student, of_teacher = (self.discriminator(each.logits.detach()) for each in (student, teacher))
                own = telling_loss(of_teacher, of_student)
        self.right += told_apart(of_teacher, of_student)
        self.seen += 2 * len(scores)
        if alternating:
            # Of value 0, so that the loss told is the student's; of weight 1, whatever the student's term weighs.
            own.register_hook(torch.ones_like)  # type: ignore[no-untyped-call]
            loss = loss + (own - own.detach())
        return loss

    def end_epoch(self) -> dict[str, float]:
        self.accuracy.copy_(self.right / self.seen)
        self.right.zero_()
        self.seen.zero_()
        return {
            "discriminator accuracy": 100 * float(self.accuracy),
            "discriminator accuracy at first": 100 * float(self.accuracy_at_first),
        }

    def stop_reason(self) -> str | None:
        if float(self.accuracy) >= self.settings.stop_below:
            return None
        return (
            f"the discriminator is right about {100 * float(self.accuracy):.1f} % of student's and teacher's outputs "
            f"(50 % is chance), less than stop_below {self.settings.stop_below:g} asks for"
        )


def _warn_if_untrained(accuracy: float, labels: torch.Tensor) -> None:
    """Where the student is hardly better than one that always names the commonest class, as far as labels tell."""
    if int(labels.min()) == NO_LABEL:
        return
    chance = float(labels.bincount().max()) / len(labels)
    if accuracy < chance + 0.1 * (1 - chance):
        log.warning(
            "adversarial: the student gets %.1f %% of the training images right, as if it had never been trained; "
            "the method starts from a trained student",
            100 * accuracy,
        )
