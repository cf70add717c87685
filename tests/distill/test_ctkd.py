"""Curriculum temperature: which way it moves, how its strength rises, and that a kill changes nothing."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.objectives.ctkd import AdversarialTemperature, cosine_rise, reversed_gradient
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.training.batches import Batch
from tests.distill.features import batches, network, optimizer_of, train, train_briefly
from tests.distill.losses import DOUBLE, logits, loss_of

SHAPE = (3, 8, 8)
START = 1 + 20 / (1 + math.exp(-1))


def adversary(**options: object) -> AdversarialTemperature:
    loss = OBJECTIVES.parse({"name": "ctkd", **options}).bind(nn.Identity(), nn.Identity(), SHAPE).loss
    assert isinstance(loss, AdversarialTemperature)
    return loss.double()


def called(
    loss: AdversarialTemperature, student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    batch = Batch(torch.empty(0), torch.zeros(len(student), dtype=torch.int64), torch.arange(len(student)), {}, weights)
    found: torch.Tensor = loss(Outputs(student, {}), Outputs(teacher, {}), batch)
    return found


def task() -> Distillation:
    student, teacher = network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE, 1)
    return Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse("ctkd")], SHAPE)


def test_a_reversed_gradient_leaves_the_value_to_the_bit() -> None:
    value = torch.tensor([0.1, -3.7, 1e-9], requires_grad=True)
    passed = reversed_gradient(value, 0.3)
    assert torch.equal(passed, value)
    passed.backward(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(value.grad, torch.tensor([-0.3, -0.6, -0.9]))


def test_its_value_is_that_of_kd_at_its_temperature() -> None:
    student, teacher = logits(0), logits(1)
    loss = adversary()
    assert loss.temperature().item() == pytest.approx(START)
    expected = loss_of({"name": "kd", "temperature": START}, student, teacher)
    assert called(loss, student, teacher).item() == pytest.approx(expected.item())
    standardised = loss_of({"name": "kd", "temperature": START, "standardise": True}, student, teacher)
    assert called(adversary(standardise=True), student, teacher).item() == pytest.approx(standardised.item())
    weights = torch.tensor([0.25, 3, 0.5, 1, 0.75, 0.5], dtype=DOUBLE)
    each = [called(loss, student[[i]], teacher[[i]]).item() for i in range(6)]
    expected_mean = sum(weight * lost for weight, lost in zip(weights.tolist(), each, strict=True)) / 6
    assert called(loss, student, teacher, weights).item() == pytest.approx(expected_mean)


@pytest.mark.parametrize("epoch", [0, 4, 30])
def test_the_students_gradient_descends_and_the_temperatures_ascends(epoch: int) -> None:
    """Against finite differences of kd: the student's as it is, theta's multiplied by -lambda."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    loss = adversary()
    loss.begin_epoch(epoch)

    def at(theta: float, given: torch.Tensor = student) -> torch.Tensor:
        temperature = 1 + 20 / (1 + math.exp(-theta))
        return loss_of({"name": "kd", "temperature": temperature}, given, teacher)

    of_student, of_theta = torch.autograd.grad(called(loss, student, teacher), (student, loss.theta))
    torch.testing.assert_close(of_student, torch.autograd.grad(at(1.0), student)[0])
    slope = (at(1 + 1e-5) - at(1 - 1e-5)).item() / 2e-5
    strength = (1 - math.cos(math.pi * min(epoch + 1, 10) / 10)) / 2
    assert of_theta.item() == pytest.approx(-strength * slope, rel=1e-6)
    assert torch.autograd.gradcheck(lambda given: called(loss, given, teacher), student)
    # A step of descent along both: the loss falls by the student's, and rises by the temperature's.
    before = at(1.0).item()
    assert at(1.0, (student - 0.01 * of_student).detach()).item() < before
    assert at(1.0 - 0.01 * of_theta.item()).item() > before


def test_the_strength_rises_as_half_a_cosine_and_stays() -> None:
    """Released code: epochs counted from 1, (cos(epoch * pi / 10) + 1) / 2 - 1, and the end from epoch 10 on."""
    for epoch in range(1, 15):
        released = (math.cos(min(epoch, 10) * math.pi / 10) + 1) / 2 - 1
        assert -cosine_rise(epoch - 1, 10) == pytest.approx(released)
    assert cosine_rise(0, 0.5) == cosine_rise(0, 0) == 1
    loss = adversary(lambda_max=0.5, curriculum=4)
    strengths = []
    for epoch in (0, 1, 3, 100):
        loss.begin_epoch(epoch)
        strengths.append(loss.strength)
    assert strengths == pytest.approx([0.5 * (1 - math.sqrt(0.5)) / 2, 0.25, 0.5, 0.5])


def test_the_temperature_is_trained_with_the_student_reported_and_no_part_of_it() -> None:
    whole = task()
    first, last = train_briefly(whole, SHAPE, "ctkd")
    assert last < first
    told = whole.end_epoch()["ctkd/temperature"]
    assert told != pytest.approx(START, abs=1e-6)
    assert 1 < told < 21
    assert {name for name in whole.state_dict() if not name.startswith("network.")} == {"learned.ctkd.theta"}


def test_training_goes_on_from_a_checkpoint_with_the_same_bits() -> None:
    """After the third of its epochs, while lambda still rises."""
    given = batches(SHAPE)

    def epochs(whole: Distillation, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[float]:
        losses = []
        for epoch in range(first, last):
            whole.begin_epoch(epoch, 6)
            losses += train(whole, list(given.epoch(0)), optimizer, "ctkd")
        return losses

    unbroken = task()
    optimizer = optimizer_of(unbroken)
    epochs(unbroken, optimizer, 0, 3)
    saved, saved_optimizer = copy.deepcopy((unbroken.state_dict(), optimizer.state_dict()))
    resumed = task()
    resumed.load_state_dict(saved)
    other = optimizer_of(resumed)
    other.load_state_dict(saved_optimizer)
    assert epochs(resumed, other, 3, 6) == epochs(unbroken, optimizer, 3, 6)
    assert resumed.learned["ctkd"].strength == cosine_rise(5, 10)  # the epoch was told
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_the_published_weights_leave_a_tenth_to_the_labels() -> None:
    label_term, objective = with_label_term([OBJECTIVES.parse("ctkd")])
    assert (label_term.weight, objective.weight) == (pytest.approx(0.1), 0.9)
