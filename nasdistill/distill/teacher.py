"""A teacher: a frozen network whose outputs a student learns from, and several of them as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import nn

from nasdistill.component import Component
from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.folding import folded
from nasdistill.distill.objectives import Objective, Outputs, Term
from nasdistill.distill.taps import Taps
from nasdistill.errors import UserError, found_at
from nasdistill.models.ensemble import Average, average_logits
from nasdistill.models.renormalisation import renormalisation


@dataclass(frozen=True)
class Teacher:
    """A trained network that is to teach.

    Attributes:
        normalisation: what its images were normalised with; None where it is not known.
        weight: its share in the output of several teachers.
    """

    network: nn.Module
    normalisation: Normalisation | None = None
    weight: float = 1.0


class FrozenTeacher:
    """A teacher at work: a copy in evaluation mode, without gradients, batch norms folded into convolutions.

    Args:
        teacher: is copied, and left as it is.
        shape: channels, height and width of the images.
        points: what objectives read inside it, see `Taps`.
        normalisation: of the images; None where it is not known.
    """

    def __init__(
        self, teacher: Teacher, shape: Shape, points: Iterable[str], normalisation: Normalisation | None
    ) -> None:
        self.points = tuple(dict.fromkeys(points))
        self.network = folded(teacher.network, shape, self.points)
        self._taps = Taps(self.network, self.points, "teacher")
        self._renormalise = renormalisation(normalisation, teacher.normalisation)

    def __call__(self, images: torch.Tensor) -> Outputs:
        """Its outputs for images, [N, C, H, W], that are normalised for the student.

        Its parameters get no gradients; images that ask for them do, as those of a generator.
        """
        with self._taps as features:
            logits = self.network(self._renormalise(images)).float()
        return Outputs(logits, features)

    def apply(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Move to another device, precision or memory format."""
        for module in (self.network, self._renormalise):
            module._apply(fn)  # type: ignore[no-untyped-call]


class Reading(Protocol):
    """A term of a sum of losses, as far as teachers know it."""

    @property
    def teacher_points(self) -> tuple[str, ...]: ...


C = TypeVar("C", bound=Component)
R = TypeVar("R", bound=Reading)


def bindings(
    losses: Iterable[C], bind: Callable[[C, nn.Module], R], teachers: Sequence[Teacher]
) -> Iterator[tuple[C, R, int]]:
    """Each loss with its term; of several teachers, with one for each whose features it reads.

    The number is the place in the outputs of `TeacherEnsemble`: 0 where the term reads those of all teachers together,
    or of the only one, else 1 more than the teacher's.

    Raises:
        SpecError: a loss does not apply to a teacher.
    """
    for loss in losses:
        for number, teacher in enumerate(teachers):
            which = f" (teacher {number})" if len(teachers) > 1 else ""
            with found_at(by=loss.registered_name + which):
                term = bind(loss, teacher.network)
            if not term.teacher_points or len(teachers) == 1:
                yield loss, term, 0
                break
            yield loss, term, 1 + number


def objective_bindings(
    objectives: Iterable[Objective], student: nn.Module, teachers: Sequence[Teacher], shape: Shape
) -> list[tuple[Objective, Term, int]]:
    """`bindings` of objectives to a student.

    Raises:
        SpecError: an objective does not apply to the student and a teacher, or not to several; or a token is all that
            learns to answer.
    """

    def bind(objective: Objective, teacher: nn.Module) -> Term:
        if objective.of_one_teacher and len(teachers) > 1:
            raise UserError(f"it learns from one teacher alone, and here are {len(teachers)}")
        return objective.bind(student, teacher, shape)

    found = list(bindings(objectives, bind, teachers))
    token = next((objective for objective, _term, _place in found if objective.teaches_token), None)
    if token is not None and all(term.student_points for _objective, term, _place in found):
        with found_at(by=token.registered_name):
            raise UserError(
                "no objective teaches the student's other classifier, which answers beside the token; add `kd`, or "
                "`cross-entropy` where there are labels"
            )
    return found


class TeacherEnsemble:
    """One or several frozen teachers.

    The outputs are a list: of one teacher its own; of several first those of the ensemble, with logits alone,
    then the outputs of each.

    Args:
        teachers: at least one; copies of them teach.
        terms: that read the outputs, each with its place, see `bindings`.
        shape, normalisation: of the images, see `FrozenTeacher`.
        average: see `average_logits`.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        terms: Iterable[tuple[Reading, int]],
        shape: Shape,
        normalisation: Normalisation | None,
        average: Average,
    ) -> None:
        points: dict[int, list[str]] = defaultdict(list)
        for term, place in terms:
            points[place] += term.teacher_points
        first = 0 if len(teachers) == 1 else 1
        self.teachers = [
            FrozenTeacher(teacher, shape, points[place], normalisation) for place, teacher in enumerate(teachers, first)
        ]
        self._weights = [teacher.weight for teacher in teachers]
        self._average: Average = average

    def __call__(self, images: torch.Tensor) -> list[Outputs]:
        """Outputs for images, [N, C, H, W], that are normalised for the student."""
        each = [teacher(images) for teacher in self.teachers]
        if len(each) == 1:
            return each
        together = average_logits([outputs.logits for outputs in each], self._weights, self._average)
        return [Outputs(together, {}), *each]

    def apply(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Move to another device, precision or memory format."""
        for teacher in self.teachers:
            teacher.apply(fn)


def packed(teacher_outputs: Sequence[Outputs]) -> dict[str, torch.Tensor]:
    """The outputs of a teacher ensemble as named tensors: `0/logits`, and `0/features/<point>` for each feature."""
    named: dict[str, torch.Tensor] = {}
    for number, outputs in enumerate(teacher_outputs):
        named[f"{number}/logits"] = outputs.logits
        named |= {f"{number}/features/{point}": feature for point, feature in outputs.features.items()}
    return named


def unpacked(named: Mapping[str, torch.Tensor]) -> list[Outputs]:
    """The inverse of `packed`."""
    logits: dict[int, torch.Tensor] = {}
    features: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in named.items():
        number, what, *point = name.split("/", 2)
        if what == "logits":
            logits[int(number)] = tensor
        else:
            features[int(number)][point[0]] = tensor
    return [Outputs(logits[number], features[number]) for number in sorted(logits)]
