"""The generator losses of DAFL: images that the teacher is sure of, of all classes alike, to which it responds."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.matching import embedding_point
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, GeneratorTerm, Pseudo


@GENERATOR_LOSSES.register("one-hot")
class OneHot(GeneratorLoss):
    """The teacher's cross-entropy with its own likeliest class, mean over images. Published weight: 1."""

    source = "Chen et al., Data-Free Learning of Student Networks (2019), equation 2"

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        logits = pseudo.teacher.logits
        return functional.cross_entropy(logits, logits.argmax(dim=1))


@GENERATOR_LOSSES.register("information-entropy")
class InformationEntropy(GeneratorLoss):
    """Minus the entropy, to base 10, of the teacher's probabilities averaged over the batch: sum of p * log10(p).

    Least, -log10(classes), where every class is as likely as any other. Base 10 is the released code's, to which the
    published weight belongs.
    """

    source = "Chen et al., Data-Free Learning of Student Networks (2019), section 3.2, and its released code"

    weight: float = Field(5.0, ge=0, description="what this term is multiplied by in the sum; published: 5")

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        logits = pseudo.teacher.logits
        # Of logarithms throughout: where a probability is 0 in single precision, its gradient would be 0 * infinity.
        mean = logits.log_softmax(dim=1).logsumexp(dim=0) - math.log(len(logits))
        return (mean.exp() * mean).sum() / math.log(10)


@GENERATOR_LOSSES.register("activation")
class Activation(GeneratorLoss):
    """Minus the mean over images and features of |f|, the teacher's features before its classifier.

    The paper sums over the features; the released code, with its weight of 0.1, takes their mean.
    """

    source = "Chen et al., Data-Free Learning of Student Networks (2019), equation 3, and its released code"

    weight: float = Field(0.1, ge=0, description="what this term is multiplied by in the sum; published: 0.1")
    point: str | None = Field(
        None, description="where the features are read in the teacher; by default the input of its last linear layer"
    )

    def bind(self, teacher: nn.Module, shape: Shape) -> GeneratorTerm:
        advice = "say where features are read instead, e.g. `point: MODULE`"
        point = self.point or embedding_point(teacher, shape, "teacher", advice)

        def loss(pseudo: Pseudo) -> torch.Tensor:
            return -pseudo.teacher.features[point].float().abs().mean()

        return GeneratorTerm(loss, (point,))
