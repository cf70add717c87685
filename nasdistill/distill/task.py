"""Distillation as a task: a student, its frozen teacher, and the weighted objectives between them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.objectives import Objective, Outputs, Term
from nasdistill.distill.objectives.cross_entropy import CrossEntropy
from nasdistill.distill.taps import Taps
from nasdistill.errors import SpecError, UserError
from nasdistill.training.tasks import Task, logits_with_auxiliary

log = logging.getLogger(__name__)


def with_label_term(objectives: Sequence[Objective], label_smoothing: float = 0.0) -> list[Objective]:
    """The objectives with the label term that they imply.

    Where no `cross-entropy` is listed, it is added with the weight 1 - (sum of the weights of the objectives that
    replace labels, such as `kd`): `kd` of weight a alone becomes the published (1-a)*CE + a*T^2*KL, and `attention`
    alone CE + beta*AT. A listed `cross-entropy`, of weight 0 too, has the last word.

    Raises:
        SpecError: the weights leave less than nothing to the labels; or label smoothing is asked for beside a listed
            cross-entropy, which has its own.
    """
    if any(isinstance(objective, CrossEntropy) for objective in objectives):
        if label_smoothing:
            raise SpecError(
                f"label_smoothing {label_smoothing:g} belongs into the listed objective "
                f"{{name: cross-entropy, label_smoothing: {label_smoothing:g}}}",
                ("label_smoothing",),
            )
        return list(objectives)
    replaced = sum(objective.weight for objective in objectives if objective.replaces_labels)
    # Decimal weights such as 0.7, 0.2 and 0.1 do not add up to 1 exactly.
    left = 0.0 if abs(1 - replaced) < 1e-9 else 1 - replaced
    if left < 0:
        raise SpecError(
            f"the weights of objectives that replace labels add up to {replaced:g}, which leaves {left:g} to the "
            "labels; list {name: cross-entropy, weight: ...} to say what they weigh",
            ("objectives",),
        )
    return [CrossEntropy(weight=left, label_smoothing=label_smoothing), *objectives] if left else list(objectives)


def renormalisation(
    images: Normalisation | None, teacher: Normalisation | None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Scale and shift, [1, C, 1, 1] each, from images normalised for the student to what the teacher was trained on.

    x_t = (p - m_t)/s_t with p = x*s + m, so x_t = x * s/s_t + (m - m_t)/s_t. None where nothing is to be done.
    """
    if images is None or teacher is None or images == teacher:
        return None
    mean, std = torch.tensor(images.mean), torch.tensor(images.std)
    teacher_mean, teacher_std = torch.tensor(teacher.mean), torch.tensor(teacher.std)
    scale, shift = std / teacher_std, (mean - teacher_mean) / teacher_std
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


class Distillation(Task):
    """The weighted losses of a student that learns from a frozen teacher.

    The teacher sees the very images that the student sees, augmentation included: in evaluation mode, without
    gradients, whatever mode this task is in. It moves with the task but is none of its modules, so that it is neither
    optimised nor written to checkpoints.

    Args:
        network: the student.
        teacher: put into evaluation mode here; its parameters stop asking for gradients.
        objectives: with the label term, see `with_label_term`; those of weight 0 are left out.
        shape: channels, height and width of the images.
        renormalise: scale and shift for the teacher's images, see `renormalisation`.
        auxiliary_weight: of the label term of the student's auxiliary head, if it has one.
        label_smoothing: of that term.

    Raises:
        UserError: teacher and student share parameters, or an objective does not apply to them.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        objectives: Sequence[Objective],
        shape: Shape,
        *,
        renormalise: tuple[torch.Tensor, torch.Tensor] | None = None,
        auxiliary_weight: float = 0.4,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(network)
        if {id(parameter) for parameter in network.parameters()} & {id(other) for other in teacher.parameters()}:
            raise UserError("the teacher shares parameters with the student, so it would change while it teaches")
        self.teacher: nn.Module
        # Past nn.Module's own bookkeeping, which would train the teacher, save it, and put it into training mode.
        object.__setattr__(self, "teacher", teacher.eval().requires_grad_(False))
        self.auxiliary_weight = auxiliary_weight
        self.label_smoothing = label_smoothing

        self.weights: dict[str, float] = {}
        self.terms: dict[str, Term] = {}
        for objective in objectives:
            if objective.weight:
                name = _unused(objective.registered_name, self.terms)
                self.weights[name] = objective.weight
                self.terms[name] = objective.bind(network, teacher, shape)
        if not self.terms:
            raise UserError("nothing is to be learned: every objective has weight 0")
        log.info(
            "the student minimises %s", " + ".join(f"{weight:g} * {name}" for name, weight in self.weights.items())
        )
        self.learned = nn.ModuleDict(
            {name: term.loss for name, term in self.terms.items() if isinstance(term.loss, nn.Module)}
        )
        terms = self.terms.values()
        self._student_taps = Taps(network, [path for term in terms for path in term.student_points], "student")
        self._teacher_taps = Taps(teacher, [path for term in terms for path in term.teacher_points], "teacher")
        scale, shift = renormalise if renormalise is not None else (None, None)
        self.register_buffer("_scale", scale, persistent=False)
        self.register_buffer("_shift", shift, persistent=False)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        taught = self.teach(images)
        with self._student_taps as features:
            logits, auxiliary = logits_with_auxiliary(self.network, images)
        said = Outputs(logits, features)
        losses = {name: self.weights[name] * term.loss(said, taught, labels) for name, term in self.terms.items()}
        if auxiliary is not None:
            loss = functional.cross_entropy(auxiliary, labels, label_smoothing=self.label_smoothing)
            losses["auxiliary"] = self.auxiliary_weight * loss
        return losses

    # Not inference_mode: the student's losses save the teacher's outputs for their backward pass, which inference
    # tensors refuse.
    @torch.no_grad()
    def teach(self, images: torch.Tensor) -> Outputs:
        """What the teacher says about images that are normalised for the student."""
        if isinstance(self._scale, torch.Tensor) and isinstance(self._shift, torch.Tensor):
            images = torch.addcmul(self._shift, images, self._scale)
        with self._teacher_taps as features:
            logits = self.teacher(images).float()
        return Outputs(logits, features)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Device, precision and memory format: the teacher goes along."""
        self.teacher._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def _unused(name: str, taken: dict[str, Term]) -> str:
    number = 1
    while (unused := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return unused
