"""What the generator minimises: its losses over one teacher or several, and what it is and is not made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Normalisation
from nasdistill.distill.teacher import Teacher
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES
from nasdistill.zero_shot.generators import GENERATORS
from tests.zero_shot.parts import CLASSES, GENERATOR, SHAPE, loop, network


def divergence(student: torch.Tensor, believed: torch.Tensor) -> torch.Tensor:
    """The mean over images and classes of p log(p / q)."""
    return (believed * (believed.log() - functional.log_softmax(student, dim=1))).mean()


def believed_by(teacher: nn.Module, images: torch.Tensor) -> torch.Tensor:
    said: torch.Tensor = teacher.eval()(images)
    return said.softmax(1)


def test_several_teachers_are_one_by_their_weights() -> None:
    first, second = network(2), network(3, channels=6)
    listed = [Teacher(first, weight=3), Teacher(second, weight=1)]
    made = loop(network(1), *listed, losses=[{"name": "adversarial", "weight": 0.5}]).generation.train()
    latents, targets = made.sample(0)
    named = made(latents, targets)
    images = made.generator(latents)
    together = 0.75 * believed_by(first, images) + 0.25 * believed_by(second, images)
    assert list(named) == ["adversarial"]
    torch.testing.assert_close(named["adversarial"], -0.5 * divergence(network(1)(images), together))


def test_each_teacher_reads_pseudo_images_in_its_own_normalisation() -> None:
    first, second = Normalisation(mean=(0.2,), std=(0.5,)), Normalisation(mean=(0.4,), std=(0.25,))
    teachers = [Teacher(network(2), first), Teacher(network(3), second)]
    made = Generation(
        *(GENERATORS.parse(GENERATOR), 8, network(1), teachers, [GENERATOR_LOSSES.parse("adversarial")]),
        *(SHAPE, CLASSES),
        normalisation=first,
    )
    latents, targets = made.sample(0)
    named = made(latents, targets)
    images = made.generator(latents)
    pixels = images * 0.5 + 0.2
    both = (believed_by(network(2), images) + believed_by(network(3), (pixels - 0.4) / 0.25)) / 2
    torch.testing.assert_close(named["adversarial"], -divergence(network(1)(images), both), rtol=1e-4, atol=1e-6)


def test_losses_of_weight_0_are_left_out() -> None:
    made = loop(network(1), network(2), losses=["adversarial", {"name": "one-hot", "weight": 0}]).generation
    assert list(made(*made.sample(0))) == ["adversarial"]


def test_the_student_is_not_asked_where_no_loss_wants_it() -> None:
    student = network(1)
    made = loop(student, network(2), losses=["one-hot"]).generation
    student.register_forward_pre_hook(lambda *_: pytest.fail("the student ran"))
    assert list(made(*made.sample(0))) == ["one-hot"]


def test_its_weights_are_the_generators_alone() -> None:
    student, teacher = network(1), network(2)
    made = loop(student, teacher).generation
    assert {id(each) for each in made.parameters()} == {id(each) for each in made.generator.parameters()}
    assert not any("student" in name or "teacher" in name for name in made.state_dict())


def test_teachers_move_with_it() -> None:
    made = loop(network(1), network(2)).generation.double()
    assert {each.dtype for teacher in made.teacher_ensemble.teachers for each in teacher.network.parameters()} == {
        torch.float64
    }
