"""The watch for a collapse: its numbers against scipy, what it tells and does, and a collapse that really happens."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import nn
from torch.nn import functional

from nasdistill.data.base import ImageSet
from nasdistill.registry import registry
from nasdistill.zero_shot.collapse import Watch, Window, answers_of, spread
from nasdistill.zero_shot.generator_losses import GeneratorLoss, Pseudo
from nasdistill.zero_shot.transfer import TEST
from tests.training.parts import FixedBatches
from tests.zero_shot.parts import Loop, loop


def answering(*classes: int, of: int = 3) -> torch.Tensor:
    """Logits whose likeliest classes these are."""
    return functional.one_hot(torch.tensor(classes), of).float()


@pytest.mark.parametrize("counts", [[5, 0, 0], [1, 1, 1], [7, 2, 3], [97, 1, 1, 1, 0, 0, 0, 0, 0, 0]])
def test_spread_is_entropy_over_its_largest_value(counts: list[int]) -> None:
    expected = entropy(counts, base=len(counts))
    assert spread(torch.tensor(counts)).item() == pytest.approx(expected, abs=1e-6)


def test_answers_are_counted_by_class() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert answers_of(logits).tolist() == np.bincount(logits.numpy().argmax(1), minlength=7).tolist()


def test_a_window_is_the_mean_over_its_pseudo_batches() -> None:
    """Two pseudo-batches, each of one class, do not add up to a spread of two classes."""
    watch = Watch(3)
    watch.add(answering(0, 0, 0, 0), answering(0, 0, 1, 1))
    watch.add(answering(1, 1, 1, 1), answering(1, 0, 2, 2))
    window = watch.window()
    assert window.student_spread == 0
    teachers = (math.log(2), entropy([1, 1, 2]))
    assert window.teacher_spread == pytest.approx(np.mean(teachers) / math.log(3))
    assert window.agreement == pytest.approx(100 * (2 + 1) / 8)
    watch.add(answering(0, 1, 2), answering(0, 1, 2))
    assert list(watch.window().figures.values()) == pytest.approx([1, 1, 100]), "a window starts anew"
    assert watch.take_histograms().tolist() == [[5, 5, 1], [4, 4, 3]], "histograms go on"
    assert watch.take_histograms().sum() == 0


def test_a_watch_goes_on_from_its_state() -> None:
    watch, other = (Watch(3) for _ in range(2))
    watch.add(answering(0, 1), answering(0, 0))
    other.load_state_dict(watch.state_dict())
    for each in (watch, other):
        each.add(answering(2, 2), answering(2, 1))
    assert watch.window() == other.window()
    assert torch.equal(watch.take_histograms(), other.take_histograms())


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (0.5, 0.5, None),
        (0.1, 0.1, None),
        (0.09, 0.5, "the student (entropy 0.09 of the largest possible) gives nearly one class for all"),
        (0.5, 0.0, "the teacher (entropy 0.00 of the largest possible) gives nearly one class for all"),
        (0.0, 0.01, "the student (entropy 0.00 of the largest possible) and the teacher (entropy 0.01 of the largest"),
    ],
)
def test_who_has_collapsed_is_said_in_words(student: float, teacher: float, said: str | None) -> None:
    found = Window(student, teacher, 50).collapsed(0.1)
    assert found is None if said is None else found is not None and said in found


class OneClassAtTimes(nn.Module):
    """A student that gives one class for all in chosen iterations of one step each; else classes in turn."""

    def __init__(self, *narrow: int) -> None:
        super().__init__()
        self.narrow = narrow
        self.bias = nn.Parameter(torch.zeros(3))
        self.steps = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        learning = self.bias.requires_grad
        answers = torch.zeros(len(images)) if self.steps in self.narrow else torch.arange(len(images)) % 3
        self.steps += learning
        return functional.one_hot(answers.long(), 3) + 1e-3 * (self.bias + images.mean(dim=(1, 2, 3))[:, None])


def with_collapses(*narrow: int, **settings: Any) -> Loop:
    given = {"pseudo_batches": 8, "watch_every": 1, "student_steps": 1, **settings}
    return loop(OneClassAtTimes(*narrow), OneClassAtTimes(), objectives=["divergence"], **given)


def test_a_collapse_is_named_when_it_starts_and_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    course = with_collapses(1, 2, 3, 6, 7).run(tmp_path)
    assert course.collapses == [2, 7]
    assert (course.done, course.stopped) == (8, None)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    because = "the student (entropy 0.00 of the largest possible) gives nearly one class for all; it goes on"
    assert told == [
        f"collapse after 2 pseudo-batches: {because}",
        "the collapse is over after 5 pseudo-batches",
        f"collapse after 7 pseudo-batches: {because}",
    ]


def test_one_pseudo_batch_of_one_class_is_no_collapse_of_a_window(tmp_path: Path) -> None:
    assert with_collapses(1, watch_every=4).run(tmp_path / "one").collapses == []
    assert with_collapses(0, 1, 2, 3, watch_every=4).run(tmp_path / "all").collapses == [4]


def test_it_ends_there_with_the_reason_if_asked_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    course = with_collapses(2, 3, 4, on_collapse="stop").run(tmp_path)
    assert (course.done, course.collapses) == (3, [3])
    assert course.stopped is not None
    assert course.stopped.startswith("collapse after 3 pseudo-batches: the student")
    assert caplog.messages[-1].endswith("; it ends here")


def test_the_generator_starts_over_if_asked_to_and_the_student_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a generator that hardly learns, its weights tell whether it was drawn anew."""
    slow = {"generator_optimizer": {"name": "adam", "lr": 1e-9}}
    made = with_collapses(2, 3, 4, on_collapse="restart", **slow)
    first = made.generation.generator.get_parameter("0.weight").detach().clone()
    course = made.run(tmp_path)
    assert (course.done, course.collapses, course.stopped) == (8, [3], None)
    again = made.generation.generator.get_parameter("0.weight").detach()
    assert (again - first).abs().max() > 0.05
    assert again.std().item() == pytest.approx(first.std().item(), rel=0.3)
    assert "; the generator starts over" in caplog.text
    unbroken = with_collapses(on_collapse="restart", **slow)
    unbroken.run(tmp_path / "unbroken")
    assert (unbroken.generation.generator.get_parameter("0.weight") - first).abs().max() < 1e-6


class WrongSign(GeneratorLoss):
    """What a re-implementation with the wrong sign minimises: the divergence itself."""

    asks_student = True
    registered_name = "wrong-sign"

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        assert pseudo.student is not None
        believed = pseudo.teacher.logits.log_softmax(1)
        return (believed.exp() * (believed - pseudo.student.log_softmax(1))).mean()


def perceptron(hidden: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def scaled(images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    return (images.images / 255 - 0.3) / 0.38, images.labels


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    """A perceptron that has learned the embedded digits, in less than a second."""
    images, labels = scaled(registry("datasets").parse("digits").read().train)
    made = perceptron(32, seed=0)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(made(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return made


def on_digits(student: nn.Module, teacher: nn.Module, **options: Any) -> Loop:
    settings = {"batch_size": 32, "watch_every": 5, "student_steps": 2, "pictures": 0, **options}
    generator = {"name": "convolutional", "latents": 16, "channels": 8}
    return loop(student, teacher, classes=10, generator=generator, objectives=["divergence"], **settings)


def test_a_collapse_that_really_happens_is_named_within_a_few_windows(tmp_path: Path, teacher: nn.Module) -> None:
    """Padmanaban and Ioannidou 2019: the student gives all images one class, and the generator pulls the teacher there.

    A far too large rate kills the student's rectifiers; a generator with the wrong sign looks for agreement.
    """
    made = on_digits(
        *(perceptron(8, seed=1), teacher),
        losses=[WrongSign()],
        pseudo_batches=30,
        optimizer={"name": "adam", "lr": 1.0},
        generator_optimizer={"name": "adam", "lr": 0.1},
        generator_steps=8,
    )
    digits = scaled(registry("datasets").parse("digits").read().test)
    course = made.run(tmp_path, FixedBatches(*digits, 355))
    assert len(course.collapses) == 1
    assert course.collapses[0] <= 15
    for name in ("answers/student spread", "answers/teacher spread"):
        assert course.curves[name][-1][1] < 0.02, name
    assert course.curves[TEST][-1][1] < 20, "it answers one class about digits too"


def test_nothing_is_named_where_all_goes_well(tmp_path: Path, teacher: nn.Module) -> None:
    made = on_digits(perceptron(16, seed=1), teacher, pseudo_batches=80, optimizer={"name": "sgd", "lr": 1.0})
    digits = scaled(registry("datasets").parse("digits").read().test)
    course = made.run(tmp_path, FixedBatches(*digits, 355))
    assert course.collapses == []
    assert min(value for _, value in course.curves["answers/student spread"]) > 0.2
    assert course.curves[TEST][-1][1] > 60
