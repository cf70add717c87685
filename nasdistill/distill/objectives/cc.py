"""Correlation congruence: how the images of a batch relate to each other, in learned embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.component import Facts
from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.matching import embedding_pair, vectors
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.taps import values_at
from nasdistill.training.batches import Batch


def correlations(embeddings: torch.Tensor, gamma: float, order: int) -> torch.Tensor:
    """exp(-2 gamma) * sum over p of (2 gamma)^p / p! * (x_i . x_j)^p for p = 0 to `order`, [N, D] to [N, N].

    It is the Taylor expansion of the Gaussian kernel exp(-gamma * ||x_i - x_j||^2) of vectors of length 1, to which the
    embeddings are scaled first.

    Source: Peng et al., Correlation Congruence for Knowledge Distillation (2019), section 3.
    """
    units = functional.normalize(embeddings, dim=1)
    products = units @ units.T
    terms = [(2 * gamma) ** p / math.factorial(p) * products**p for p in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(terms).sum(dim=0)


def neighbouring_errors(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean over images i of sum over dimensions of |s_i - t_i| * |s_i+1 - t_i+1|, of embeddings [N, D]; a scalar.

    Image i + 1 is the one after i in the batch; 0 where there is none.

    Source: the code of the authors of Peng et al. (2019), as Tian et al., Contrastive Representation Distillation
    (2020), release it.
    """
    errors = (student - teacher).abs()
    return (errors[:-1] * errors[1:]).sum() / max(1, len(errors) - 1)


@OBJECTIVES.register("cc")
class CorrelationCongruence(Objective):
    """How far the relations between a batch's images in the student's embedding lie from those in the teacher's.

    A linear layer maps each network's embedding to `dimensions` numbers; both are learned with the student and are no
    part of what is kept of it. Form `paper` is the mean over all N^2 pairs of images of the squared difference between
    both networks' kernels. Form `code` is what the authors gave to the benchmark whose weight is the default: products
    of the errors of images that follow each other in the batch, which are 0 where one of the two has none.
    """

    source = "Peng et al., Correlation Congruence for Knowledge Distillation (2019), section 3, and its authors' code"

    weight: float = Field(
        0.02, ge=0, description="what this term is multiplied by; 0.02 is published for the form `code` alone"
    )
    form: Literal["code", "paper"] = Field(
        "code", description="code: products of neighbouring images' errors; paper: squared difference of kernels"
    )
    dimensions: int = Field(128, gt=0, description="of the vectors that both embeddings are mapped to")
    gamma: float = Field(0.4, gt=0, description="of the Gaussian kernel of the form `paper`")
    order: int = Field(2, gt=0, le=20, description="P, to which the form `paper` expands its kernel")
    pair: tuple[str, str] | None = Field(
        None, description="points, [student's, teacher's]; by default the input of each network's last linear layer"
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.form == "code":
            yield from ((name, "the form `code` has no kernel") for name in self.differs("gamma", "order"))

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        ours, theirs = embedding_pair(self.pair, student, teacher, shape)
        student_size = values_at(student, ours, shape, "student")
        teacher_size = values_at(teacher, theirs, shape, "teacher")
        return Term(Congruence(self, (ours, theirs), (student_size, teacher_size)), (ours,), (theirs,))


class Congruence(LearnedLoss):
    """Both networks' linear embeddings and the distance between them.

    Args:
        sizes: values of an image at the points of `pair`.
    """

    def __init__(self, settings: CorrelationCongruence, pair: tuple[str, str], sizes: tuple[int, int]) -> None:
        super().__init__()
        self.settings = settings
        self.pair = pair
        self.student_embedding, self.teacher_embedding = (nn.Linear(size, settings.dimensions) for size in sizes)

    def prepare(self, preview: Preview) -> None:
        """Draw both embeddings by the seed alone."""
        reinitialise(self.student_embedding, generator_for(preview.seed, "cc", "student"))
        reinitialise(self.teacher_embedding, generator_for(preview.seed, "cc", "teacher"))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        ours, theirs = self.pair
        settings = self.settings
        # Autocast would multiply in half precision.
        with torch.autocast(student.logits.device.type, enabled=False):
            of_student = self.student_embedding(vectors(student.features[ours]))
            of_teacher = self.teacher_embedding(vectors(teacher.features[theirs]))
            if settings.form == "code":
                return neighbouring_errors(of_student, of_teacher)
            said, taught = (correlations(each, settings.gamma, settings.order) for each in (of_student, of_teacher))
            return functional.mse_loss(said, taught)
