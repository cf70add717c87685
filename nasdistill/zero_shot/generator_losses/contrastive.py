"""The generator loss of CMI: images that can be told from all others by a part of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.augmentations.random_resized_crop import RandomResizedCrop
from nasdistill.data.augmentations.standard import Flip
from nasdistill.data.base import Shape
from nasdistill.distill.objectives import Outputs
from nasdistill.distill.taps import output_shapes
from nasdistill.errors import UserError
from nasdistill.registry import build
from nasdistill.training.processes import all_gather
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, GeneratorTerm, Pseudo
from nasdistill.zero_shot.generator_losses.deep_inversion import batch_norm_inputs


@GENERATOR_LOSSES.register("contrastive")
class Contrastive(GeneratorLoss):
    """How badly a part of an image is told from the wholes of others: -log of its own share among all.

    The share is exp(s/T) of its own whole over the sum of those of all, where s is the cosine of two embeddings; the
    others are those of this pseudo-batch and of earlier ones, which are remembered. An embedding is what a perceptron
    of two layers, which learns beside the generator, makes of the means over space of the teacher's features. The part
    is a random crop of a quarter of the image or more, back at its size and perhaps mirrored; the teacher is asked
    about it once more. Losses of this pseudo-batch's parts and of earlier ones' are means that are added.
    """

    source = "Fang et al., Contrastive Model Inversion for Data-Free Knowledge Distillation (2021), and released code"

    weight: float = Field(
        0.8, ge=0, description="what this term is multiplied by in the sum; published for CIFAR-10: 0.8"
    )
    temperature: float = Field(0.1, gt=0, description="T: the smaller, the more the most similar others count")
    memory: int = Field(
        4096,
        gt=0,
        description="images of earlier pseudo-batches that each is told from, the latest; published are as many, drawn "
        "from the latest 40960",
    )
    embedding: int = Field(256, gt=0, description="numbers of an embedding; released code: 256")
    points: list[str] | None = Field(
        None, min_length=1, description="where features are read in the teacher; by default in front of all batch norms"
    )

    def bind(self, teacher: nn.Module, shape: Shape) -> GeneratorTerm:
        points = tuple(self.points or batch_norm_inputs(teacher, shape))
        if not points:
            raise UserError(
                "the teacher has no batch norm, in front of which features are read; say where, e.g. `points: [MODULE]`"
            )
        features = sum(size[0] for size in output_shapes(teacher, points, shape, "teacher").values())
        loss = Discrimination(points, features, self.embedding, self.memory, self.temperature)
        return GeneratorTerm(loss, points)


class Discrimination(nn.Module):
    """The loss, the perceptron, and what is remembered.

    Args:
        points: whose means over space are the features.
        features: how many these are together.
        embedding: numbers that the perceptron makes of them.
        memory: earlier images that are remembered.
    """

    earlier: torch.Tensor
    count: torch.Tensor

    def __init__(self, points: Sequence[str], features: int, embedding: int, memory: int, temperature: float) -> None:
        super().__init__()
        self.points = tuple(points)
        self.temperature = temperature
        self.head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, embedding))
        self.register_buffer("earlier", torch.zeros(2, memory, features))  # of parts and of wholes
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))  # of those that are there
        self._known = 0  # the same, which no device has to be asked for
        self.register_load_state_dict_post_hook(lambda *_: self._count())  # type: ignore[no-untyped-call]
        self._latest = self.earlier[:, :0]
        self._views = (build(RandomResizedCrop, {"scale": (0.25, 1.0)}), build(Flip, {}))

    def forward(self, pseudo: Pseudo) -> torch.Tensor:
        """A scalar."""
        part = pseudo.images
        for view in self._views:
            # Drawn on the CPU from the generator that checkpoints hold.
            part = view.apply(part, view.sample(len(part), (part.shape[2], part.shape[3]), torch.default_generator))
        assert pseudo.ask is not None
        parts, wholes = self._features(pseudo.ask(part)), self._features(pseudo.teacher)
        self._latest = torch.stack([parts, wholes]).detach()
        earlier = self.earlier[:, : self._known]
        ours = self.head(torch.cat([parts, earlier[0]]))
        with torch.no_grad():
            theirs = self.head(torch.cat([wholes, earlier[1]]))
        # In single precision, which products divided by a small temperature need; autocast would multiply in half.
        with torch.autocast(parts.device.type, enabled=False):
            ours, theirs = (functional.normalize(each.float(), dim=1) for each in (ours, theirs))
            return discrimination(ours, theirs, len(parts), self.temperature)

    def remember(self) -> None:
        latest = all_gather(self._latest).transpose(0, 1).flatten(1, 2)
        memory = self.earlier.shape[1]
        self.earlier.copy_(torch.cat([latest, self.earlier], dim=1)[:, :memory])
        self._known = min(self._known + latest.shape[1], memory)
        self.count.fill_(self._known)

    def _count(self) -> None:
        self._known = int(self.count)

    def _features(self, outputs: Outputs) -> torch.Tensor:
        features = (outputs.features[point].float() for point in self.points)
        return torch.cat([each.flatten(2).mean(2) if each.dim() > 2 else each for each in features], dim=1)


def discrimination(parts: torch.Tensor, wholes: torch.Tensor, own: int, temperature: float) -> torch.Tensor:
    """The mean over this pseudo-batch's parts of -log(exp(s_ii/T) / sum_j exp(s_ij/T)), plus that over earlier ones'.

    Args:
        parts, wholes: embeddings of length 1, [N + M, E]: N of this pseudo-batch and M earlier ones, or none; s are
            their products.
        own: N.
    """
    similar = parts @ wholes.T / temperature
    lost = similar.logsumexp(dim=1) - similar.diagonal()
    means = [each.mean() for each in (lost[:own], lost[own:]) if len(each)]
    return torch.stack(means).sum()
