"""Small networks and the loop of zero-shot transfer around them, which take milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasdistill.data.base import Normalisation
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.registry import build
from nasdistill.training.batches import Batches
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss
from nasdistill.zero_shot.generators import GENERATORS
from nasdistill.zero_shot.settings import TransferSettings
from nasdistill.zero_shot.transfer import Course, transfer
from tests.distill.nets import TwoMaps
from tests.training.parts import engine, surroundings

SHAPE, CLASSES = (1, 8, 8), 3
SEED = 7
GENERATOR: Mapping[str, object] = {"name": "convolutional", "latents": 5, "channels": 4}
PUBLISHED = ("divergence", {"name": "attention", "beta": 250})
SMALL: Mapping[str, object] = {"pseudo_batches": 2, "batch_size": 8, "student_steps": 3, "pictures": 1}


def network(seed: int, channels: int = 4, dropout: float = 0.0) -> TwoMaps:
    """Two convolutions with batch norms that have seen images."""
    torch.manual_seed(seed)
    made = TwoMaps(channels, CLASSES)
    made.dropout.p = dropout
    for norm in (made.first[1], made.second[1]):
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return made


@dataclass(frozen=True)
class Loop:
    """What `transfer` takes."""

    task: Distillation
    generation: Generation
    settings: TransferSettings

    @property
    def student(self) -> nn.Module:
        return self.task.network

    def run(self, folder: Path, test: Batches | None = None) -> Course:
        checkpoints, records = surroundings(folder)
        course = transfer(self.task, self.generation, self.settings, engine(), SEED, test, checkpoints, records)
        records.close()
        return course


def loop(
    student: nn.Module,
    *teachers: nn.Module | Teacher,
    generator: object = GENERATOR,
    losses: Sequence[object] = ("adversarial",),
    objectives: Sequence[object] = PUBLISHED,
    classes: int = CLASSES,
    normalisation: Normalisation | None = None,
    **settings: Any,
) -> Loop:
    """The loop of a student and its teachers; the settings are small ones unless given.

    Args:
        losses: of the generator: specs, or made ones.
    """
    listed = [teacher if isinstance(teacher, Teacher) else Teacher(teacher) for teacher in teachers]
    resolved = build(TransferSettings, {**SMALL, **settings})
    task = Distillation(student, listed, [OBJECTIVES.parse(spec) for spec in objectives], SHAPE)
    torch.manual_seed(SEED)
    made = GENERATORS.parse(generator)
    terms = [each if isinstance(each, GeneratorLoss) else GENERATOR_LOSSES.parse(each) for each in losses]
    generation = Generation(
        *(made, resolved.batch_size, student, listed, terms, SHAPE, classes),
        normalisation=normalisation,
        augmentations=resolved.augmentations,
        latent_speed=resolved.latent_speed,
        best_images=resolved.images == "best",
    )
    return Loop(task, generation, resolved)


@dataclass(frozen=True)
class Seen:
    """One call of a network.

    Attributes:
        graph: whether gradients with respect to the images are wanted.
        weights_learn: whether gradients with respect to its own weights are.
        training: the modes of all its modules.
    """

    images: torch.Tensor
    graph: bool
    weights_learn: bool
    training: frozenset[bool]
    module: nn.Module


def watched(network: nn.Module) -> list[Seen]:
    """What the network, and every copy that is made of it from now on, is given to read, call by call."""
    calls: list[Seen] = []

    def before(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        (images,) = given
        learns = torch.is_grad_enabled()
        calls.append(
            Seen(
                images.detach().clone(),
                learns and images.requires_grad,
                learns and any(parameter.requires_grad for parameter in module.parameters()),
                frozenset(each.training for each in module.modules()),
                module,
            )
        )

    network.register_forward_pre_hook(before)
    return calls
