"""A teacher: a frozen network that says what it thinks of images, and several of them as one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.folding import folded
from nasdistill.distill.objectives import Outputs
from nasdistill.distill.taps import Taps

Average = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class Teacher:
    """A trained network that is to teach.

    Attributes:
        normalisation: what its images were normalised with, if that is known.
        weight: its share in what several teachers say.
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
        images: what the images are normalised with, if that is known.
    """

    def __init__(self, teacher: Teacher, shape: Shape, points: Iterable[str], images: Normalisation | None) -> None:
        self.points = tuple(dict.fromkeys(points))
        self.network = folded(teacher.network, shape, self.points)
        self._taps = Taps(self.network, self.points, "teacher")
        self._renormalise = renormalisation(images, teacher.normalisation)

    def __call__(self, images: torch.Tensor) -> Outputs:
        """What it says about images, [N, C, H, W], that are normalised for the student.

        Its parameters get no gradients; images that ask for them do, as those of a generator.
        """
        if self._renormalise is not None:
            scale, shift = self._renormalise
            images = torch.addcmul(shift, images, scale)
        with self._taps as features:
            logits = self.network(images).float()
        return Outputs(logits, features)

    def apply(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Move to another device, precision or memory format."""
        self.network._apply(fn)  # type: ignore[no-untyped-call]
        if self._renormalise is not None:
            scale, shift = self._renormalise
            self._renormalise = fn(scale), fn(shift)


class Faculty:
    """One or several frozen teachers.

    What they say is a list: of one teacher its outputs; of several first what they say together, with logits alone,
    then the outputs of each.

    Args:
        average: see `average_logits`.
    """

    def __init__(self, teachers: Sequence[FrozenTeacher], weights: Sequence[float], average: Average) -> None:
        self.teachers = tuple(teachers)
        self._weights = tuple(weights)
        self._average: Average = average

    def __call__(self, images: torch.Tensor) -> list[Outputs]:
        """What is said about images, [N, C, H, W], that are normalised for the student."""
        each = [teacher(images) for teacher in self.teachers]
        if len(each) == 1:
            return each
        together = average_logits([outputs.logits for outputs in each], self._weights, self._average)
        return [Outputs(together, {}), *each]

    def apply(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Move to another device, precision or memory format."""
        for teacher in self.teachers:
            teacher.apply(fn)


def packed(lessons: Sequence[Outputs]) -> dict[str, torch.Tensor]:
    """What a faculty said, as named tensors: `0/logits`, and `0/features/<point>` for each feature."""
    named: dict[str, torch.Tensor] = {}
    for number, outputs in enumerate(lessons):
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


def average_logits(logits: Sequence[torch.Tensor], weights: Sequence[float], average: Average) -> torch.Tensor:
    """What several teachers say together, as logits [N, C] of one.

    `probabilities`: log of sum_i w_i * softmax(z_i), whose softmax is the mean of their probabilities.
    `logits`: sum_i w_i * z_i, whose softmax is their geometric mean, normalised.
    The weights w_i are divided by their sum.

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network (2015), section 3 (both means).
    """
    # Plain numbers: a tensor of them would have to be copied to the device, which waits for it.
    shares = [weight / sum(weights) for weight in weights]
    pairs = list(zip(shares, logits, strict=True))
    if average == "logits":
        return torch.stack([share * each for share, each in pairs]).sum(dim=0)
    return torch.stack([math.log(share) + each.log_softmax(dim=1) for share, each in pairs]).logsumexp(dim=0)


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
