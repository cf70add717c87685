"""The overhaul of feature distillation: what a teacher's rectifier is about to let through."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.maps import MapPair
from nasdistill.distill.objectives import OBJECTIVES, Objective, Term
from nasdistill.distill.preactivation import ConnectedPairs, preactivation_pairs
from nasdistill.errors import UserError


def margins(norm: nn.BatchNorm2d) -> torch.Tensor:
    """m = E[x | x < 0] of each channel that a batch norm puts out, [C]: of a Gaussian of its shift b and scale g.

    m = b - |g| * pdf(b / g) / cdf(-b / |g|); -3 |g| where a channel is negative with a probability of 1/1000 or less.

    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation (2019), section 3, and its released code.
    """
    zeros = torch.zeros(norm.num_features, dtype=torch.float64)
    mean = zeros if norm.bias is None else norm.bias.detach().cpu().double()
    scale = zeros + 1 if norm.weight is None else norm.weight.detach().cpu().double().abs()
    standard = mean / scale.clamp(min=1e-12)
    negative = torch.special.ndtr(-standard)
    density = torch.exp(-standard.square() / 2) / math.sqrt(2 * math.pi)
    return torch.where(negative > 0.001, mean - scale * density / negative, -3 * scale).float()


def partial_distance(student: torch.Tensor, teacher: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    """The squared distance from t = max(teacher, margin), 0 where student <= t <= 0: sum over an image, mean over the
    batch; a scalar.

    Args:
        student, teacher: [N, C, H, W], in front of a rectifier.
        margins: of each channel, [C].

    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation (2019), section 3.
    """
    target = torch.maximum(teacher, margins.to(teacher.dtype).view(-1, 1, 1))
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum() / len(target)


@OBJECTIVES.register("ofd")
class OverhaulOfFeatureDistillation(Objective):
    """The sum over pairs of layers of the partial squared distance between maps in front of their rectifiers.

    The teacher's negative values are cut off at a margin, their mean as its batch norm tells it; a student below a
    negative target loses nothing. Each layer counts half of what the next one does, as published. The student's map
    goes through a connector, a 1x1 convolution and a batch norm, which is learned with it and no part of what is kept
    of it.

    The teacher's points are batch norms whose output is rectified: by default those next to its feature points, which
    pre-activated networks have, and chains of convolution, norm and rectifier. A network that rectifies sums of
    branches, such as ResNet, has none.
    """

    source = "Heo et al., A Comprehensive Overhaul of Feature Distillation (2019), and its released code"

    weight: float = Field(
        0.001, ge=0, description="what the sum over pairs is multiplied by; 1/1000 is that of the released code"
    )
    pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="pairs of points, [student's, teacher's], from first to last; the teacher's are batch norms; by "
        "default what is rectified at the networks' feature points",
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        pairs = preactivation_pairs("ofd", self.pairs, student, teacher, shape)
        loss = Overhaul(pairs, [margins(_norm(teacher, pair.theirs)) for pair in pairs])
        return Term(loss, tuple(pair.ours for pair in pairs), tuple(pair.theirs for pair in pairs))


class Overhaul(ConnectedPairs):
    """The connectors, and how far the connected student lies from what its teacher's rectifiers read."""

    def __init__(self, pairs: tuple[MapPair, ...], cut_offs: list[torch.Tensor]) -> None:
        super().__init__("ofd", pairs)
        self.margins = nn.ParameterList(nn.Parameter(margins, requires_grad=False) for margins in cut_offs)

    def distance(self, number: int, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return partial_distance(student, teacher, self.margins[number])


def _norm(teacher: nn.Module, point: str) -> nn.BatchNorm2d:
    module = dict(teacher.named_modules()).get(point)
    if not isinstance(module, nn.BatchNorm2d):
        raise UserError(
            f"it reads what a batch norm of the teacher hands to a rectifier, and {point!r} has none; name such batch "
            "norms, `pairs: [[student's, teacher's], ...]`, or leave the objective out"
        )
    return module
