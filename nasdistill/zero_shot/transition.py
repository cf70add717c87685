"""Transition curves: how sure two networks become as one of them pulls images across its decision boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.records import Records

Network = Callable[[torch.Tensor], torch.Tensor]
"""From images, [N, C, H, W], to logits, [N, classes]; in evaluation mode, and its weights ask for no gradients."""

DIGITS = 5
"""Of a probability in a file; that of a mean over a thousand paths is known to fewer."""


class WalkStep(NamedTuple):
    """One step of several paths.

    Attributes:
        student, teacher: [paths], the probability of each path's class before the step.
        images: [paths, C, H, W], where the paths are after it.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    images: torch.Tensor


def walk(
    student: Network, teacher: Network, images: torch.Tensor, towards: torch.Tensor, steps: int, step_size: float = 1.0
) -> Iterator[WalkStep]:
    """Change each image until the student takes it for each of its given classes, and watch both networks.

    x_{k+1} = x_k - step_size * grad_x CE(student(x_k), j): no sign, clipping or projection. The student's probabilities
    come from the very pass that the gradient is taken of. The paths of an image start from one point, so that it passes
    forward once for all of them there. Nobody asks what follows the last step, so that one leaves the images where they
    are.

    Source: Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), algorithm 2.

    Args:
        images: [N, C, H, W], normalised for the student.
        towards: int64, [N, J], the classes j that paths lead to from each image; N * J paths, see `in_order`.
    """
    for left in reversed(range(steps)):
        here = images.detach().requires_grad_(left > 0)
        with torch.enable_grad():
            ours = student(here).log_softmax(1).gather(1, towards)
            gradients = _gradients(ours, here) if left else torch.zeros(towards.shape[1])
        with torch.no_grad():
            theirs = teacher(here).log_softmax(1).gather(1, towards)
            images = torch.cat([here + step_size * gradient for gradient in gradients])
        yield WalkStep(in_order(ours.detach().exp()), in_order(theirs.exp()), images)
        towards = in_order(towards)[:, None]


def in_order(of_paths: torch.Tensor) -> torch.Tensor:
    """What holds for the paths of each image, [N, J], as [N * J]: the paths to the first class of each image first."""
    return of_paths.T.flatten()


def _gradients(log_probabilities: torch.Tensor, images: torch.Tensor) -> list[torch.Tensor]:
    """Those of log-probabilities, [N, J], by the images: J of their shape, each minus that of a cross-entropy."""
    *columns, last = log_probabilities.sum(0)
    gradients = [torch.autograd.grad(column, images, retain_graph=True)[0] for column in columns]
    return [*gradients, *torch.autograd.grad(last, images)]


def other_classes(agreed: torch.Tensor, classes: int) -> torch.Tensor:
    """The classes that images are pulled towards, int64, [N, classes - 1]: all but the one of each image, [N]."""
    others = torch.arange(classes - 1).expand(len(agreed), -1)
    return others + (others >= agreed[:, None])


@dataclass(frozen=True)
class TransitionCurves:
    """The curves of many paths, added up by the class that they lead towards.

    Attributes:
        sums: float64, [3, classes, steps], on the CPU: the student's probability of that class, the teacher's, and how
            far the two are apart.
        paths: int64, [classes], how many lead there.
    """

    sums: torch.Tensor
    paths: torch.Tensor

    @classmethod
    def none(cls, classes: int, steps: int) -> TransitionCurves:
        return cls(torch.zeros(3, classes, steps, dtype=torch.float64), torch.zeros(classes, dtype=torch.int64))

    def add(self, towards: torch.Tensor, student: torch.Tensor, teacher: torch.Tensor) -> None:
        """Add paths towards classes, int64, [N], with the probabilities along them, [N, steps] each."""
        for number, seen in enumerate((student, teacher, (student - teacher).abs())):
            self.sums[number].index_add_(0, towards, seen.double().cpu())
        self.paths.index_add_(0, towards, torch.ones_like(towards))

    @property
    def mean_transition_error(self) -> float:
        """The mean over images, their other classes and steps of |p_j(teacher) - p_j(student)|, between 0 and 1.

        Source: as of `walk`, where it is called MTE.
        """
        return float(self.sums[2].sum() / (self.paths.sum() * self.sums.shape[2]))

    def plain(self, labels: Sequence[str]) -> dict[str, Any]:
        """The mean curves over all paths, and over those towards each class, as plain data."""
        every = _means(self.sums.sum(dim=1), int(self.paths.sum()))
        by_class = [
            {"label": label, **_means(self.sums[:, number], paths)}
            for number, (label, paths) in enumerate(zip(labels, self.paths.tolist(), strict=True))
            if paths
        ]
        return {**every, "classes": by_class}


def _means(sums: torch.Tensor, paths: int) -> dict[str, Any]:
    curves = [[round(value, DIGITS) for value in curve] for curve in (sums / paths).tolist()]
    return {"paths": paths, **dict(zip(("student", "teacher", "error"), curves, strict=True))}


def transition_curves(
    student: Network,
    teacher: Network,
    images: Callable[[torch.Tensor], torch.Tensor],
    agreed: torch.Tensor,
    classes: int,
    *,
    steps: int = 100,
    step_size: float = 1.0,
    batch_size: int = 250,
    checkpoints: Checkpoints | None = None,
    records: Records | None = None,
) -> TransitionCurves:
    """Walk from each image towards every class but its own, many paths at a time.

    What was stopped goes on from its last checkpoint, in the middle of a path too, and ends, on a CPU, with the same
    bits as if it had not been.

    Args:
        images: those at places, int64, [M] with values below N, as in `walk`.
        agreed: int64, [N], on the CPU: what both networks take each image for.
        batch_size: of paths that are walked together, at most; those of an image stay together where they fit. Affects
            only speed and memory.

    Raises:
        Interrupted: a stop was asked for; everything is on disk.
    """
    checkpoints, records = checkpoints or Checkpoints(), records or Records(title="comparison")
    images_together = max(1, batch_size // (classes - 1))
    batches = [
        (places, towards)
        for places in torch.split(torch.arange(len(agreed)), images_together)
        for towards in torch.split(other_classes(agreed[places], classes), batch_size, dim=1)
    ]
    curves = TransitionCurves.none(classes, steps)
    ours: list[torch.Tensor] = []
    theirs: list[torch.Tensor] = []
    first = 0
    here: torch.Tensor | None = None
    saved = checkpoints.load()
    if saved is not None:
        first, here, curves = saved["batch"], saved["images"], TransitionCurves(saved["sums"], saved["paths"])
        ours, theirs = saved["student"], saved["teacher"]

    def capture() -> dict[str, Any]:
        return {"batch": batch, "images": here, "student": ours, "teacher": theirs, **vars(curves)}

    with records.progress(len(batches) * steps, first * steps + len(ours)) as progress:
        for batch, (places, towards) in enumerate(batches[first:], first):
            start, left = images(places), towards
            if here is not None:
                start = torch.cat([start] * towards.shape[1]).copy_(here)  # in the memory format that it had
                left = in_order(towards)[:, None]
            for step in walk(student, teacher, start, left.to(start.device), steps - len(ours), step_size):
                ours.append(step.student)
                theirs.append(step.teacher)
                here = step.images
                checkpoints.step(batch * steps + len(ours), capture)
                progress.step()
            curves.add(in_order(towards), _columns(ours), _columns(theirs))
            ours, theirs, here = [], [], None
    return curves


def _columns(steps: Sequence[torch.Tensor]) -> torch.Tensor:
    """[N, steps]; what a checkpoint held lies on the CPU."""
    return torch.stack([step.cpu() for step in steps], dim=1)
