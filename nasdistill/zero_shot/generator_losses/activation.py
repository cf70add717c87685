"""Images to which the teacher's features respond."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.embedding import embedding_point
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, GeneratorTerm, Pseudo


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
