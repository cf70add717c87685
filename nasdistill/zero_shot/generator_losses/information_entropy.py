"""Images of all classes alike."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


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
