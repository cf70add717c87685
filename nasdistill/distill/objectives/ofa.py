"""One-for-all distillation: layers of the student answer too, and learn from the answers of a teacher of any family."""

from __future__ import annotations

import logging

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.depthwise.convolution import DepthwiseConv2d
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.matching import default_points, embedding_point, vectors
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.taps import count_classes, output_shapes, values_at
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch

log = logging.getLogger(__name__)

GIVE_POINTS = "name layers of it with `points`, or leave the objective out"
GIVE_WIDTH = "give `width`, the channels of the branches before their classifiers"


def enhanced_cross_entropy(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, gamma: float, temperature: float = 1.0
) -> torch.Tensor:
    """Cross-entropy with the teacher's probabilities, that of the label enhanced: logits [N, C] and labels [N] to [N].

    -((1 + p_y)^gamma - 1) * log q_y - the sum over all other classes of p_c^gamma * log q_c, of the label y and the
    softened probabilities p of the teacher and q of the student. With gamma = 1 it is the cross-entropy of the two. The
    paper's equation has (1 + p_y)^gamma and p_c: the 1 is a cross-entropy with the labels in each branch. This is
    the released code's.

    Source: Hao et al., One-for-All (2023), section 3.3, and its released code.
    """
    theirs = (teacher / temperature).softmax(dim=1)
    target = functional.one_hot(labels, theirs.shape[1])
    wanted = (theirs + target) ** gamma - target
    return -(wanted * (student / temperature).log_softmax(dim=1)).sum(dim=1)


def branch(channels: int, width: int, classes: int, halvings: int) -> nn.Sequential:
    """From a map of the student to logits: [N, channels, H, W] to [N, classes].

    Args:
        width: channels before the classifier.
        halvings: blocks that halve height and width and double the channels; the last leads to `width`. With none, a
            1x1 convolution does.

    Source: Hao et al., One-for-All (2023), section 3.2, and its released code.
    """
    layers: list[nn.Module] = []
    for number in range(halvings):
        wider = width if number == halvings - 1 else 2 * channels
        layers += _halving(channels, wider)
        channels = wider
    if not halvings:
        layers.append(nn.Conv2d(channels, width, 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def _halving(channels: int, wider: int) -> list[nn.Module]:
    """Two separable convolutions with batch norm and a rectifier; the first has stride 2, the second more channels."""
    return [
        part
        for stride, into in ((2, channels), (1, wider))
        for part in (
            DepthwiseConv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
            nn.Conv2d(channels, into, 1, bias=False),
            nn.BatchNorm2d(into),
            nn.ReLU(),
        )
    ]


@OBJECTIVES.register("ofa")
class OneForAll(Objective):
    """The sum over branches of the student, and its own logits, of a cross-entropy with the teacher's probabilities.

    A branch leads from a layer of the student to logits of its own; no layer of the teacher is read, so that it may be
    of any other family. What the teacher says of the label is enhanced by the power gamma, and of the other classes
    weakened. The branches learn with the student and are no part of what is kept of it. Added to the whole label term;
    a mean over the batch, without T^2. The constants are the released defaults, and gamma that of its command for
    ResNet-18 taught by DeiT-T on ImageNet. Branches are those that are published for convolutional students.
    """

    source = (
        "Hao et al., One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation (2023), "
        "section 3, and its released code"
    )
    weighs_images = True
    needs_classes = True

    gamma: float = Field(1.5, gt=0, description="power of 1 + p of the label, and of the others' p; 1 enhances nothing")
    temperature: float = Field(1.0, gt=0, description="T, which softens the probabilities of both networks")
    logits_weight: float = Field(1.0, ge=0, description="of the student's own logits, beside 1 for each branch")
    points: tuple[str, ...] = Field(
        (), description="points in the student that get a branch, the deepest last; by default its feature points"
    )
    width: int | None = Field(
        None,
        gt=0,
        description="channels of the branches before their classifiers; by default those of the larger of both "
        "networks' embeddings",
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        points = self.points or default_points(student, shape, "student", GIVE_POINTS)
        found = output_shapes(student, points, shape, "student")
        for point, output in found.items():
            if len(output) != 3:
                raise UserError(
                    f"the branches of ofa read maps of channels, height and width, but the student's module {point!r} "
                    f"puts out {list(output)} per image; {GIVE_POINTS}"
                )
        width = self.width or max(_embedding(student, shape, "student"), _embedding(teacher, shape, "teacher"))
        classes = count_classes(student, shape)
        branches = [
            branch(found[point][0], width, classes, len(points) - 1 - place) for place, point in enumerate(points)
        ]
        log.info("ofa: branches of the student's %s, of %d channels", ", ".join(points), width)
        return Term(Branches(self, points, branches), points)


class Branches(LearnedLoss):
    """The branches, and the loss of what they and the student say."""

    def __init__(self, settings: OneForAll, points: tuple[str, ...], branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.settings = settings
        self.points = points
        self.branches = nn.ModuleList(branches)

    def prepare(self, preview: Preview) -> None:
        """Draw the branches by the seed alone."""
        reinitialise(self.branches, generator_for(preview.seed, "ofa"))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        settings = self.settings

        def loss(logits: torch.Tensor) -> torch.Tensor:
            return enhanced_cross_entropy(logits, teacher.logits, batch.labels, settings.gamma, settings.temperature)

        losses = [
            loss(vectors(answers(student.features[point])))
            for answers, point in zip(self.branches, self.points, strict=True)
        ]
        return batch.mean(torch.stack([*losses, settings.logits_weight * loss(student.logits)]).sum(dim=0))


def _embedding(network: nn.Module, shape: Shape, whose: str) -> int:
    """How many values the network's embedding has."""
    return values_at(network, embedding_point(network, shape, whose, GIVE_WIDTH), shape, whose)
