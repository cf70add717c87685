"""How good a classifier is: accuracy, over images and over classes, ranking, loss, calibration and confusion."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from nasdistill.training.batches import Batches
from nasdistill.training.losses import Diverged
from nasdistill.training.modes import in_evaluation_mode
from nasdistill.training.processes import all_gather_rows

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine

BINS = 15


@dataclass(frozen=True)
class Metrics:
    """What a network scores on a set of images.

    Attributes:
        accuracy: top-1, in percent.
        top5: share of images whose class is among the five likeliest, in percent; 100 for five classes or fewer.
        balanced_accuracy: mean over the classes that occur of the share of their images that are recognised (recall),
            in percent: equal to `accuracy` where all classes are equally frequent.
        imbalance: images of the most frequent class over those of the rarest that occurs.
        loss: mean cross-entropy, in nats.
        calibration_error: expected calibration error in [0, 1], see `calibration_error`.
        confusion: images by true class (row) and predicted class (column).
        bins: of each bin of confidence its images, how many of them are correct, and the sum of their confidences.
        ranked: of two classes the logits, [N, 2], and the images' classes, [N].
    """

    accuracy: float
    top5: float
    balanced_accuracy: float
    imbalance: float
    loss: float
    calibration_error: float
    confusion: list[list[int]]
    bins: list[list[float]]
    ranked: tuple[torch.Tensor, torch.Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def misclassified(self) -> int:
        """How many images are given another class than theirs."""
        return round(sum(images - right for images, right, _sure in self.bins))

    @cached_property
    def auc(self) -> float | None:
        """Of two classes the area under the ROC curve, see `area_under_roc`; else None.

        It is computed when it is asked for: evaluations while training have no use for it.
        """
        return None if self.ranked is None else area_under_roc(*self.ranked)

    def plain(self) -> dict[str, float]:
        """What an artifact tells of a network besides its accuracy."""
        return {
            "misclassified": self.misclassified,
            "top5": self.top5,
            "balanced_accuracy": self.balanced_accuracy,
            **({} if self.auc is None else {"auc": self.auc}),
            "imbalance": self.imbalance,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
        }

    def without_epochs(self) -> dict[str, Any]:
        """What an artifact tells of a network that is scored once, where there is no choice among epochs."""
        return {"accuracy": dict.fromkeys(("last", "best", "selected"), self.accuracy), **self.plain()}


def area_under_roc(logits: torch.Tensor, truth: torch.Tensor) -> float | None:
    """The chance that an image of the second class is given more of its probability than one of the first, in [0, 1].

    Ties count half. It is the area under the curve of true over false positives as the threshold moves.
    Source: Hanley, McNeil, The meaning and use of the area under a ROC curve (1982).

    Args:
        logits: [N, 2].
        truth: int64, [N].

    Returns:
        None where a class does not occur, or a logit is not finite.
    """
    from sklearn.metrics import roc_auc_score

    # Probabilities rise with the difference of the logits, and saturate where it does not.
    scores = logits[:, 1].double() - logits[:, 0].double()
    if truth.min() == truth.max() or not scores.isfinite().all():
        return None
    return float(roc_auc_score(truth.numpy(), scores.numpy()))


def calibration_error(correct: torch.Tensor, confidence: torch.Tensor, images: int) -> float:
    """Expected calibration error: sum over bins b of (n_b / N) * |accuracy_b - confidence_b|.

    As n_b * |correct_b / n_b - confidence_b / n_b| needs no division, empty bins need no care.
    Source: Guo et al. 2017, On calibration of modern neural networks (arXiv:1706.04599), eq. 3.

    Args:
        correct: [bins], how many images of each bin were classified correctly.
        confidence: [bins], the sum of their confidences.
        images: N, those of all bins together.
    """
    return float((correct - confidence).abs().sum() / images)


def bin_of(confidence: torch.Tensor) -> torch.Tensor:
    """The index of the bin that holds each confidence in (0, 1]; bin i of the 15 is (i/15, (i+1)/15]."""
    return (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)


def evaluate(network: nn.Module, batches: Batches, engine: Engine, full_precision: bool = False) -> Metrics:
    """Score a network on images, see `logits_of` and `score`."""
    return score(*logits_of(network, batches, engine, full_precision))


def logits_of(
    network: nn.Module, batches: Batches, engine: Engine, full_precision: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """A network's logits for all images, float32 [N, classes], and their classes, int64 [N]; both on the CPU.

    The network runs in evaluation mode; every module keeps the mode that it was in. Each process runs its share of the
    batches, whole ones, so that the logits are those of one process; all return all, so that they decide alike.

    Args:
        full_precision: compute in float32, as an exported network does, whatever the engine's precision.

    Raises:
        Diverged: some logits are not finite, which rank nothing.
    """
    engine.broadcast_buffers(network)
    sharers = min(engine.processes, len(batches))
    share = engine.fabric.global_rank % sharers  # where batches are few, some processes do what others do
    start, stop = (len(batches) * edge // sharers for edge in (share, share + 1))
    outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
    with in_evaluation_mode(network), torch.inference_mode():
        for images, truth, *_ in batches.epoch(0, start, stop):
            with contextlib.nullcontext() if full_precision else engine.autocast():
                logits = network(images)
            outputs.append((logits.float(), truth))
        columns = (all_gather_rows(torch.cat(column))[:sharers] for column in zip(*outputs, strict=True))
        logits, truth = (torch.cat(column).cpu() for column in columns)
    broken = int((~logits.isfinite()).any(1).sum())
    if broken:
        raise Diverged(f"the network's logits of {broken} of {len(logits)} images are no numbers (NaN or infinity)")
    return logits, truth


def score(logits: torch.Tensor, truth: torch.Tensor) -> Metrics:
    """What logits [N, classes] are worth for images of the classes `truth`, int64 [N]."""
    classes = logits.shape[1]
    confidence, predicted = logits.softmax(1).max(1)
    correct = predicted == truth
    likeliest = logits.topk(min(5, classes)).indices
    bins = bin_of(confidence)
    images, right, sure = (
        torch.bincount(bins, each.double(), BINS) for each in (torch.ones_like(confidence), correct, confidence)
    )
    confusion = torch.bincount(truth * classes + predicted, minlength=classes * classes).view(classes, classes)
    of_class = confusion.sum(1)
    occur = of_class > 0
    return Metrics(
        accuracy=100 * float(correct.double().mean()),
        top5=100 * float((likeliest == truth[:, None]).any(1).double().mean()),
        balanced_accuracy=100 * float((confusion.diagonal()[occur].double() / of_class[occur]).mean()),
        imbalance=float(of_class.max() / of_class[occur].min()),
        loss=float(functional.cross_entropy(logits, truth, reduction="none").double().mean()),
        calibration_error=calibration_error(right, sure, len(truth)),
        confusion=[[int(count) for count in row] for row in confusion.tolist()],
        bins=torch.stack([images, right, sure], 1).tolist(),
        ranked=(logits, truth) if classes == 2 else None,
    )
