"""Pairs of real networks that train for a few steps, for the tests of objectives on features."""

from __future__ import annotations

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.objectives import OBJECTIVES, Outputs, Term
from nasdistill.distill.task import Distillation
from nasdistill.registry import registry
from nasdistill.training.batches import Batch
from tests.training.parts import FixedBatches


def network(name: str, shape: Shape, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    built = registry("models").parse(name).build(shape, 3)
    assert isinstance(built, nn.Module)
    return built


def drawn(seed: int, *shape: int) -> torch.Tensor:
    """Normal values in double precision."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bound(spec: object, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
    term: Term = OBJECTIVES.parse(spec).bind(student, teacher, shape)
    return term


def loss_of(term: Term, student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """The unweighted loss where these are at the points that a term reads, in their order."""
    none = torch.empty(0)
    ours = Outputs(none, dict(zip(term.student_points, student, strict=True)))
    theirs = Outputs(none, dict(zip(term.teacher_points, teacher, strict=True)))
    return term.loss(ours, theirs, Batch(none, none, none))


def batches(shape: Shape, count: int = 24, size: int = 12) -> FixedBatches:
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))
    return FixedBatches(images, torch.arange(count) % 3, size)


def optimizer_of(task: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(task.parameters(), lr=3e-3)


def train(task: Distillation, given: list[Batch], optimizer: torch.optim.Optimizer, objective: str) -> list[float]:
    """One step on each batch; the weighted losses of one objective."""
    losses = []
    task.train()
    for batch in given:
        named = task(batch)
        optimizer.zero_grad()
        torch.stack(list(named.values())).sum().backward()
        optimizer.step()
        losses.append(float(named[objective].detach()))
    return losses


def train_briefly(task: Distillation, shape: Shape, objective: str, epochs: int = 15) -> list[float]:
    """The loss of an objective in the first epoch and in the last, means over their batches."""
    given = batches(shape)
    task.prepare(given, seed=0)
    losses = train(task, list(given.epoch(0)) * epochs, optimizer_of(task), objective)
    steps = len(given)
    return [sum(losses[:steps]) / steps, sum(losses[-steps:]) / steps]
