"""Several networks as one: the average of their outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from nasdistill.component import Options
from nasdistill.data.base import Normalisation, Shape
from nasdistill.errors import SpecError, found_at
from nasdistill.models.base import MODELS, Model, NetworkSpec
from nasdistill.models.portable import drop_auxiliary
from nasdistill.models.renormalisation import renormalisation
from nasdistill.registry import ComponentOf

Average = Literal["probabilities", "logits"]


class Member(Options):
    """A network of an ensemble."""

    model: Annotated[Any, ComponentOf("models")] = Field(description="what it is; an ensemble, too")
    normalisation: Normalisation | None = Field(
        None, description="what its own images are normalised with; as the ensemble's if left out"
    )
    weight: float = Field(1.0, gt=0, description="its weight in the average; the weights are divided by their sum")


@MODELS.register("ensemble")
class EnsembleModel(Model):
    """The average of several networks' outputs, as one network; the stage `ensemble` makes it of trained ones.

    Auxiliary heads and drop path belong to the training of a network alone: members have neither.
    """

    reads_texts: ClassVar[bool] = True

    source: ClassVar[str] = (
        "Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, section 3 (both means)"
    )

    members: tuple[Member, ...] = Field(min_length=1, description="the networks")
    average: Average = Field("probabilities", description="what is averaged")
    normalisation: Normalisation | None = Field(
        None, description="what the images that the ensemble reads are normalised with, if that is known"
    )

    @model_validator(mode="after")
    def _binary_by_member(self) -> EnsembleModel:
        if self.binary is not None:
            raise SpecError("an ensemble is not made binary itself; its members can be binary models", ("binary",))
        return self

    def build(self, shape: Shape, classes: int) -> nn.Module:
        networks = []
        for number, member in enumerate(self.members):
            with found_at("members", number, "model"):
                networks.append(NetworkSpec(model=member.model, shape=shape, classes=classes).build())
        return self.of(networks)

    def of(self, networks: Sequence[nn.Module]) -> nn.Module:
        """The ensemble of `networks`, one for each of `members`; they become its parts, less their auxiliary heads."""
        return EnsembleNetwork(
            networks,
            [renormalisation(self.normalisation, member.normalisation) for member in self.members],
            [member.weight for member in self.members],
            self.average,
        )


class EnsembleNetwork(nn.Module):
    """Each member reads the images in its own normalisation; the output is `average_logits` of theirs.

    It has no feature points of its own: an objective that reads features is told which member's it should read, as
    `members.0.group1`, or is given the networks as several teachers.
    """

    feature_points: tuple[str, ...] = ()

    def __init__(
        self,
        members: Iterable[nn.Module],
        renormalisations: Iterable[nn.Module],
        weights: Sequence[float],
        average: Average,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.renormalisations = nn.ModuleList(renormalisations)
        self._weights = tuple(weights)
        self._average: Average = average
        for member in self.members:
            drop_auxiliary(member)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = [
            member(renormalise(images)) for member, renormalise in zip(self.members, self.renormalisations, strict=True)
        ]
        # in single precision at least: bf16 would round the mean once more
        exact = [logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in outputs]
        return average_logits(exact, self._weights, self._average)


def average_logits(logits: Sequence[torch.Tensor], weights: Sequence[float], average: Average) -> torch.Tensor:
    """The output of several networks together, as logits [N, C] of one.

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
