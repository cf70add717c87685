"""What holds for every loss that learns: drawn by its seed, kept by checkpoints, no part of the student."""

from __future__ import annotations

import copy

import pytest
import torch

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from tests.distill.features import batches, optimizer_of, train, train_briefly
from tests.distill.nets import TwoMaps

SHAPE = (1, 6, 6)
LEARNED: list[dict[str, object]] = [
    {"name": "hints"},
    {"name": "crd", "negatives": 16, "dimensions": 8},
    {"name": "vid"},
    {"name": "cc", "dimensions": 8},
    {"name": "cc", "dimensions": 8, "form": "paper"},
    {"name": "ab"},
    {"name": "ft", "epochs": 1},
    {"name": "ofd"},
]
every_loss = pytest.mark.parametrize("spec", LEARNED, ids=lambda spec: "-".join(map(str, spec.values())))


def task_of(spec: object) -> Distillation:
    torch.manual_seed(0)
    student, teacher = TwoMaps(), TwoMaps(channels=8)
    return Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse(spec)], SHAPE)


@every_loss
def test_the_seed_alone_decides_what_is_drawn(spec: dict[str, object]) -> None:
    drawn = []
    for seed in (0, 0, 1):
        task = task_of(spec)
        torch.manual_seed(len(drawn))  # what this process drew before
        random = torch.get_rng_state()
        task.prepare(batches(SHAPE), seed)
        assert torch.equal(torch.get_rng_state(), random)
        drawn.append(copy.deepcopy(task.learned.state_dict()))
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())
    assert any(not torch.equal(value, drawn[2][name]) for name, value in drawn[0].items())


@every_loss
def test_it_learns_with_the_student_and_leaves_the_teacher_alone(spec: dict[str, object]) -> None:
    task = task_of(spec)
    teacher = task.teacher_ensemble.teachers[0].network
    before = copy.deepcopy(teacher.state_dict())
    first, last = train_briefly(task, SHAPE, str(spec["name"]), epochs=30)
    assert last < 0.98 * first
    assert all(parameter.grad is not None for parameter in task.learned.parameters() if parameter.requires_grad)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert set(task.network.state_dict()) == set(TwoMaps().state_dict()), "the student is exported without it"


@every_loss
def test_training_goes_on_from_a_checkpoint_with_the_same_bits(spec: dict[str, object]) -> None:
    given = batches(SHAPE)
    steps = list(given.epoch(0)) * 2
    unbroken = task_of(spec)
    unbroken.prepare(given, seed=0)
    optimizer = optimizer_of(unbroken)
    train(unbroken, steps[:2], optimizer, str(spec["name"]))
    saved = copy.deepcopy((unbroken.state_dict(), optimizer.state_dict()))
    random = torch.get_rng_state()
    resumed = task_of(spec)
    resumed.prepare(given, seed=0)
    other = optimizer_of(resumed)
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    ended = []
    for task, its in ((unbroken, optimizer), (resumed, other)):
        torch.set_rng_state(random)
        train(task, steps[2:], its, str(spec["name"]))
        ended.append(task.state_dict())
    assert all(torch.equal(value, ended[1][name]) for name, value in ended[0].items())


@every_loss
def test_mixed_precision_leaves_the_loss_in_single(spec: dict[str, object]) -> None:
    task = task_of(spec)
    task.prepare(batches(SHAPE), seed=0)
    (given, _) = batches(SHAPE).epoch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task(given)[str(spec["name"])]
    assert loss.dtype == torch.float32
    assert loss.isfinite()
