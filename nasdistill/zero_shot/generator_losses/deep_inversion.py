"""The generator losses of DeepInversion: images of given classes, smooth, small, and such as batch norms remember."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.taps import INPUT
from nasdistill.errors import UserError
from nasdistill.models.inspection import run_order
from nasdistill.training.processes import all_reduce_mean
from nasdistill.training.synchronised import own_statistics
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, GeneratorTerm, Pseudo


@GENERATOR_LOSSES.register("class-prior")
class ClassPrior(GeneratorLoss):
    """The teacher's cross-entropy with classes drawn evenly for the pseudo-batch, mean over images.

    Published weight: 1. It is for generators that are told the classes, or are drawn anew or adapted for each
    pseudo-batch: one that only learns over all of them does not know the classes.
    """

    source = "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), equation 2"
    asks_classes = True

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        return functional.cross_entropy(pseudo.teacher.logits, pseudo.targets)


@GENERATOR_LOSSES.register("total-variation")
class TotalVariation(GeneratorLoss):
    """Sum over four directions of the L2 norm of the differences between neighbours: along rows, columns, diagonals.

    Each norm is over the whole batch, as in the released code, so that the loss grows with the root of its size.
    """

    source = "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), and released code"

    weight: float = Field(
        2.5e-5,
        ge=0,
        description="what this term is multiplied by in the sum; in the released code 2.5e-5 for CIFAR-10 with 256 "
        "images, with a remark that 1e-3 looks better, and 1e-4 for ImageNet",
    )

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        images = pseudo.images
        above, below = images[:, :, :-1], images[:, :, 1:]
        differences = (
            images[..., 1:] - images[..., :-1],
            below - above,
            below[..., 1:] - above[..., :-1],
            below[..., :-1] - above[..., 1:],
        )
        return torch.stack([torch.linalg.vector_norm(difference) for difference in differences]).sum()


@GENERATOR_LOSSES.register("l2")
class Length(GeneratorLoss):
    """The L2 norm of an image, normalised as the teacher reads it; mean over images."""

    source = "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), and released code"

    weight: float = Field(
        1e-5,
        ge=0,
        description="what this term is multiplied by in the sum; released code: 1e-5 for ImageNet, 0 for CIFAR-10",
    )

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        lengths: torch.Tensor = torch.linalg.vector_norm(pseudo.images.flatten(1), dim=1)
        return lengths.mean()


Norm = nn.BatchNorm1d | nn.BatchNorm2d


@GENERATOR_LOSSES.register("batch-norm")
class BatchNormStatistics(GeneratorLoss):
    """Sum over the teacher's batch norms of ||batch mean - running mean||_2 + ||batch variance - running variance||_2.

    Norms are over the channels of what the layer reads; a batch's variance is that of its values (divided by their
    number), as in the released code.
    """

    source = (
        "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), equation 4; with "
        "momentum Fang et al., Up to 100x Faster Data-Free Knowledge Distillation (2022), and its released code"
    )

    weight: float = Field(
        10.0, ge=0, description="what this term is multiplied by in the sum; published: 10 for CIFAR-10"
    )
    first: float = Field(
        1.0, ge=0, description="what the first layer's part is multiplied by; the released code for ImageNet has 10"
    )
    momentum: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="how much the running statistics of earlier pseudo-batches count in place of the batch's own, so "
        "that not each batch has to look like all data; in the code of Fast and NAYER 0.9",
    )

    def bind(self, teacher: nn.Module, shape: Shape) -> GeneratorTerm:
        norms = batch_norm_inputs(teacher, shape)
        if not norms:
            raise UserError("the teacher has no batch norm, which would remember the statistics of its training images")
        return GeneratorTerm(AllStatistics(norms, self.first, self.momentum), tuple(norms))


def batch_norm_inputs(teacher: nn.Module, shape: Shape) -> dict[str, Norm]:
    """The batch norms that remember statistics, by the points in front of them, in the order in which they run."""
    remembering = {
        path: module
        for path, module in teacher.named_modules()
        if isinstance(module, Norm) and module.running_mean is not None
    }
    return {path + INPUT: remembering[path] for path in run_order(teacher, shape) if path in remembering}


class AllStatistics(nn.Module):
    """The sum over layers, given by the points of what they read, in the order in which they run."""

    def __init__(self, norms: Mapping[str, Norm], first: float, momentum: float) -> None:
        super().__init__()
        self.points = tuple(norms)
        kind = functools.partial(RunningStatistics, momentum=momentum) if momentum else Statistics
        self.layers = nn.ModuleList(kind(norm) for norm in norms.values())
        self.first = first

    def forward(self, pseudo: Pseudo) -> torch.Tensor:
        features = pseudo.teacher.features
        first, *others = (layer(features[point]) for point, layer in zip(self.points, self.layers, strict=True))
        return torch.stack([self.first * first, *others]).sum()

    def remember(self) -> None:
        for layer in self.layers:
            if isinstance(layer, RunningStatistics):
                layer.remember()


class Statistics(nn.Module):
    """How far the statistics of a batch lie from those that a batch norm remembers."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        # They come with the teacher, so no checkpoint has to hold them.
        self.register_buffer("mean", norm.running_mean.clone(), persistent=False)
        self.register_buffer("variance", norm.running_var.clone(), persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """A scalar, of features [N, C, ...]."""
        return self.distance(*OwnStatistics.apply(features))

    def distance(self, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """A scalar, of statistics [C]."""
        norm = torch.linalg.vector_norm
        distance: torch.Tensor = norm(mean - self.mean) + norm(variance - self.variance)
        return distance


class OwnStatistics(torch.autograd.Function):
    """Mean m and biased variance v of each channel, [C], over N values of it, in float32 at least.

        dL/dx = (dL/dm + 2 (x - m) dL/dv) / N

    Autograd takes ten passes over the features for what is one.
    """

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, variance = own_statistics(features)
        ctx.save_for_backward(features, mean)
        return mean, variance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_mean: torch.Tensor, of_variance: torch.Tensor) -> torch.Tensor:
        features, mean = ctx.saved_tensors
        values = features.numel() // len(mean)
        # The formula is that of a batch norm that knows its statistics, whose one pass needs no copy in float32.
        slope, offset = 2 * of_variance / values, of_mean / values
        return functional.batch_norm(features, mean, torch.ones_like(mean), slope, offset, eps=0)


class RunningStatistics(Statistics):
    """The same of a running mean of statistics: of the batch's own by 1 - momentum, of earlier batches' by momentum."""

    earlier: torch.Tensor
    share: torch.Tensor

    def __init__(self, norm: Norm, momentum: float) -> None:
        super().__init__(norm)
        self.momentum = momentum
        self.register_buffer("earlier", torch.stack([torch.zeros_like(self.mean), torch.zeros_like(self.variance)]))
        self.register_buffer("share", torch.zeros(()))  # the momentum, once there is something earlier
        self._latest = self.earlier

    def distance(self, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        blended = torch.lerp(torch.stack([mean, variance]), self.earlier, self.share)
        self._latest = blended.detach()
        return super().distance(*blended)

    def remember(self) -> None:
        (mean,) = all_reduce_mean([self._latest])
        self.earlier.copy_(mean)
        self.share.fill_(self.momentum)
