"""Transition curves: paths beside a loop of one image and one class, and beside their recursion for linear networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Normalisation
from nasdistill.distill.teacher import FrozenTeacher, Teacher
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.records import Records
from nasdistill.zero_shot.transition import Network, TransitionCurves, other_classes, transition_curves, walk
from tests.distill.nets import TwoMaps

SHAPE = (1, 6, 6)
CLASSES = 3
STEPS = 12
RATE = 40.0
OURS = Normalisation(mean=(0.4,), std=(0.3,))
THEIRS = Normalisation(mean=(0.1,), std=(0.7,))


def network(seed: int, channels: int = 4) -> TwoMaps:
    """In double precision and evaluation mode, with weights that decide and statistics that matter."""
    torch.manual_seed(seed)
    made = TwoMaps(channels).double().eval()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                    assert tensor is not None
                    tensor.uniform_(0.2, 1)
        made.classifier.weight.mul_(15)
    return made


def normalised(pixels: torch.Tensor, how: Normalisation) -> torch.Tensor:
    return (pixels - how.mean[0]) / how.std[0]


def pixels() -> torch.Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def one_by_one(student: nn.Module, teacher: nn.Module, agreed: torch.Tensor) -> dict[tuple[int, int], np.ndarray]:
    """By image and class the probabilities [2, STEPS] of student and teacher, as released code walks: all gradients."""
    curves = {}
    for number, picture in enumerate(pixels()):
        for target in range(CLASSES):
            if target == int(agreed[number]):
                continue
            image = normalised(picture[None], OURS).requires_grad_()
            seen = []
            for _ in range(STEPS):
                student.zero_grad()
                logits = student(image)
                functional.cross_entropy(logits, torch.tensor([target])).backward()
                with torch.no_grad():
                    theirs = teacher(normalised(image * OURS.std[0] + OURS.mean[0], THEIRS))
                    seen.append([float(said.softmax(1)[0, target]) for said in (logits, theirs)])
                    assert image.grad is not None
                    image -= RATE * image.grad
                    image.grad.zero_()
            curves[number, target] = np.array(seen).T
    return curves


def frozen(module: nn.Module, own: Normalisation) -> Network:
    at_work = FrozenTeacher(Teacher(module, own), SHAPE, (), OURS)
    at_work.apply(torch.Tensor.double)
    return lambda images: at_work(images).logits


def walked(student: Network, teacher: Network, folder: Path, agreed: torch.Tensor, batch_size: int) -> TransitionCurves:
    images = normalised(pixels(), OURS)
    return transition_curves(
        student, teacher, images.__getitem__, agreed, CLASSES, steps=STEPS, step_size=RATE, batch_size=batch_size,
        checkpoints=Checkpoints(folder), records=Records(folder, "test", quiet=True),
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_paths_walked_together_are_those_walked_one_by_one(tmp_path: Path, batch_size: int) -> None:
    """Whatever is walked together, with batch norms that are folded away, for networks of two normalisations."""
    student, teacher = network(0), network(1, channels=6)
    agreed = torch.tensor([0, 2, 1, 1, 0])
    expected = one_by_one(student, teacher, agreed)
    assert len(expected) == 5 * (CLASSES - 1)
    gained = [curve[0, -1] - curve[0, 0] for curve in expected.values()]
    assert np.mean(gained) > 0.2, "the case is too easy: the student is not led anywhere"
    curves = walked(frozen(student, OURS), frozen(teacher, THEIRS), tmp_path, agreed, batch_size)
    every = np.stack(list(expected.values()))
    apart = np.abs(every[:, 0] - every[:, 1])
    assert curves.mean_transition_error == pytest.approx(apart.mean(), abs=1e-6)
    assert apart.mean() > 0.1
    told = curves.plain(["a", "b", "c"])
    np.testing.assert_allclose([told["student"], told["teacher"]], every.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(told["error"], apart.mean(axis=0), atol=1e-5)
    assert told["paths"] == len(expected)
    for each in told["classes"]:
        towards = np.stack([curve for (_, target), curve in expected.items() if "abc"[target] == each["label"]])
        assert each["paths"] == len(towards)
        np.testing.assert_allclose([each["student"], each["teacher"]], towards.mean(axis=0), atol=1e-5)
    assert sum(each["paths"] for each in told["classes"]) == len(expected)


def test_linear_networks_follow_their_recursion() -> None:
    """z = Wx: x_{k+1} = x_k - step_size * W^T (softmax(Wx_k) - e_j)."""
    draw = np.random.default_rng(0)
    ours, theirs, start = draw.normal(size=(4, 9)), draw.normal(size=(4, 9)), draw.normal(size=(3, 9))
    towards = np.array([2, 0, 3])

    def linear(weight: np.ndarray) -> Network:
        return lambda images: images.flatten(1) @ torch.tensor(weight).T

    steps = list(
        walk(
            linear(ours), linear(theirs), torch.tensor(start).view(3, 1, 3, 3), torch.tensor(towards)[:, None], 9, 0.05
        )
    )
    assert len(steps) == 9
    at = start
    for number, step in enumerate(steps):
        sure = [np.exp(at @ weight.T) for weight in (ours, theirs)]
        ours_now, theirs_now = (powers / powers.sum(1, keepdims=True) for powers in sure)
        np.testing.assert_allclose(step.student, ours_now[range(3), towards], rtol=1e-12)
        np.testing.assert_allclose(step.teacher, theirs_now[range(3), towards], rtol=1e-12)
        if number < 8:
            at = at - 0.05 * (ours_now - np.eye(4)[towards]) @ ours
        np.testing.assert_allclose(step.images.flatten(1), at, rtol=1e-12)


@pytest.mark.parametrize(
    ("batch_size", "passes"),
    [
        (4, [2, 4, 4] * 2 + [1, 2, 2]),  # two images, two images and one
        (3, [1, 2, 2] * 5),
        (1, [1, 1, 1] * 10),
    ],
)
def test_an_image_passes_once_where_its_paths_start(batch_size: int, passes: list[int]) -> None:
    """Of five images each has two paths of three steps."""
    passed: dict[str, list[int]] = {"student": [], "teacher": []}

    def counted(who: str) -> Network:
        def logits(images: torch.Tensor) -> torch.Tensor:
            passed[who].append(len(images))
            return images.flatten(1)[:, :CLASSES]

        return logits

    agreed = torch.tensor([0, 2, 1, 1, 0])
    transition_curves(
        counted("student"), counted("teacher"), pixels().__getitem__, agreed, CLASSES, steps=3, batch_size=batch_size
    )
    assert passed == {"student": passes, "teacher": passes}


def test_a_network_is_at_no_distance_from_itself(tmp_path: Path) -> None:
    student = frozen(network(0), OURS)
    assert walked(student, student, tmp_path, torch.tensor([0, 2, 1, 1, 0]), 100).mean_transition_error == 0.0


def test_networks_are_left_as_they_were() -> None:
    student, teacher = network(0).float(), network(1).float()
    before = [{name: value.clone() for name, value in each.state_dict().items()} for each in (student, teacher)]
    with torch.no_grad():  # a gradient is followed all the same
        for step in walk(student, teacher, torch.rand(2, *SHAPE), torch.tensor([[0], [1]]), 3):
            assert not any(tensor.requires_grad for tensor in step)
            assert not torch.is_grad_enabled()
    for each, state in zip((student, teacher), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in each.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in each.parameters())
        assert not any(module.training for module in each.modules())


def test_all_classes_but_the_agreed_one() -> None:
    expected = [[each for each in range(5) if each != agreed] for agreed in (0, 4, 2)]
    assert other_classes(torch.tensor([0, 4, 2]), 5).tolist() == expected
