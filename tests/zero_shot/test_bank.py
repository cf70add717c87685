"""The bank of pseudo-images: what it remembers, what the student sees of it, and what lies on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import Normalisation
from nasdistill.errors import SpecError, UserError
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.zero_shot.bank import Bank
from tests.training.parts import engine
from tests.zero_shot.parts import SEED, SHAPE, Loop, loop, network, watched

NORMALISATION = Normalisation(mean=(0.4,), std=(0.25,))
STEP = 1 / 255 / 0.25
"""Of a byte, in normalised space."""
DARKEST = -0.4 / 0.25


def grey(*bytes_: int) -> torch.Tensor:
    """Images of one grey each, as bytes have it, normalised."""
    return (torch.tensor(bytes_, dtype=torch.float32) * STEP + DARKEST).view(-1, 1, 1, 1).expand(-1, *SHAPE)


def greys(images: torch.Tensor) -> list[int]:
    return [round(value) for value in ((images[:, 0, 0, 0] - DARKEST) / STEP).tolist()]


def bank(size: int, folder: Path | None = None, share: float = 1.0) -> Bank:
    generation = loop(network(1), network(2), normalisation=NORMALISATION).generation
    return Bank(size, share, generation, engine(), Checkpoints(folder))


def test_images_come_back_as_bytes_and_beyond_black_and_white_clipped() -> None:
    made = bank(4)
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2
    made.admit(images)
    (seen,) = made.mixed(torch.zeros(4, *SHAPE), 1, SEED)
    clipped = images.clamp(DARKEST, 255 * STEP + DARKEST)
    assert (clipped != images).any()
    nearest = torch.cdist(seen.flatten(1), clipped.flatten(1), p=float("inf")).min(1)
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3]
    assert nearest.values.max() <= STEP / 2 + 1e-6


def test_the_latest_are_remembered_and_all_seen_before_any_again() -> None:
    made = bank(5)
    for first in (0, 3, 6):
        made.admit(grey(first, first + 1, first + 2))
    batches = [greys(seen) for seen in made.mixed(grey(100, 100), 5, SEED)]
    seen = [number for batch in batches for number in batch]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [4, 5, 6, 7, 8]
    assert [greys(each) for each in made.mixed(grey(100, 100), 5, SEED)] == batches, "a function of the place"
    assert [greys(each) for each in made.mixed(grey(100, 100), 5, SEED, 1)] != batches


def test_a_share_of_a_batch_are_images_just_made() -> None:
    made = bank(4, share=0.25)
    made.admit(grey(1, 2, 3, 4))
    for seen in map(greys, made.mixed(grey(*range(100, 108)), 3, SEED)):
        assert [number < 100 for number in seen] == [True] * 2 + [False] * 6
        assert len(set(seen)) == 8


def test_what_is_saved_is_what_came_since(tmp_path: Path) -> None:
    """No image is written twice; what three checkpoints back needs is there, and no more."""
    made, folder = bank(4, tmp_path), tmp_path / "bank"
    states: list[dict[str, Any]] = []
    for first in (0, 2, 4, 6):
        made.admit(grey(first, first + 1))
        states.append(made.state_dict())
        assert made.state_dict()["files"] == states[-1]["files"], "nothing new, no new file"
    assert sorted(each.name[11:12] + each.name[24:25] for each in folder.iterdir()) == ["24", "46", "68"]

    resumed = bank(4, tmp_path)
    resumed.load_state_dict(states[-1])
    assert [greys(each) for each in resumed.mixed(grey(9), 4, SEED)] == [
        greys(each) for each in made.mixed(grey(9), 4, SEED)
    ]
    # A later file is of a run that was killed before its checkpoint: the resumed one writes another, and drops it.
    made.admit(grey(8, 9))
    made.state_dict()
    resumed.admit(grey(8))
    resumed.state_dict()
    assert sorted(each.name[11:12] + each.name[24:25] for each in folder.iterdir()) == ["46", "68", "89"]
    broken = next(folder.glob("*6-*"))
    broken.write_bytes(broken.read_bytes()[:-1] + b"\1")
    with pytest.raises(UserError, match=f"is damaged.*move {tmp_path} away to start anew"):
        bank(4, tmp_path).load_state_dict(states[-1])


def seen_by_student(folder: Path, **settings: Any) -> tuple[Loop, list[list[torch.Tensor]], int]:
    """Of each iteration the images of the student's steps; and how often the teacher was asked about them."""
    steps = 3
    student, teacher = network(1), network(2, channels=6)
    of_teacher = watched(teacher)
    made = loop(
        *(student, teacher),
        normalisation=NORMALISATION,
        pseudo_batches=4,
        student_steps=steps,
        **settings,
    )
    of_student = watched(student)
    of_teacher.clear()
    made.run(folder)
    learned = [call.images for call in of_student if call.weights_learn]
    return (
        made,
        [learned[at : at + steps] for at in range(0, len(learned), steps)],
        sum(not call.graph for call in of_teacher),
    )


def byte(image: torch.Tensor) -> tuple[int, ...]:
    return tuple(((image - DARKEST) / STEP).round().clamp(0, 255).int().flatten().tolist())


def test_the_first_step_sees_the_images_just_made_and_others_the_bank(tmp_path: Path) -> None:
    """Of every second iteration, in a bank of one pseudo-batch; teachers are asked about each."""
    _made, iterations, asked = seen_by_student(tmp_path, bank=8, bank_every=2)
    assert asked == 4 * 3
    for number, (fresh, *others) in enumerate(iterations):
        remembered = {byte(image) for image in iterations[number // 2 * 2][0]}
        for seen in others:
            assert {byte(image) for image in seen} == remembered
        assert ({byte(image) for image in fresh} == remembered) == (number % 2 == 0)


def test_a_bank_changes_nothing_before_the_students_second_step(tmp_path: Path) -> None:
    _, without, asked = seen_by_student(tmp_path / "without")
    _, with_bank, _ = seen_by_student(tmp_path / "with", bank=64, bank_share=0.5)
    assert asked == 4, "once for an iteration, as published"
    assert torch.equal(without[0][0], with_bank[0][0])
    assert not torch.equal(without[0][1], with_bank[0][1])


def test_augmentations_differ_from_step_to_step_and_reach_the_generator(tmp_path: Path) -> None:
    made, iterations, asked = seen_by_student(tmp_path, augmentations=["flip"])
    assert asked == 4 * 3
    first, *others = iterations[0]
    for seen in others:
        mirrored = [torch.equal(*pair) for pair in zip(first, seen, strict=True)]
        assert any(mirrored)
        assert not all(mirrored)
        assert all(torch.equal(a, b) or torch.equal(a.flip(2), b) for a, b in zip(first, seen, strict=True))
    generation = loop(
        network(1), network(2), losses=["one-hot"], augmentations=[{"name": "crop", "padding": 2}]
    ).generation
    found = {float(generation(*generation.sample(SEED, 0))["one-hot"].detach()) for _ in range(4)}
    assert len(found) > 1
    generation(*generation.sample(SEED, 0))["one-hot"].backward()
    assert all(parameter.grad is not None for parameter in generation.parameters())
    assert made.generation.augmentations


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bank": 8}, "nobody knows what the teacher's images were normalised with"),
        ({"bank": 8, "generator": "embeddings", "normalisation": NORMALISATION}, "'embeddings' makes embeddings"),
    ],
)
def test_what_cannot_be_remembered(options: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem):
        loop(network(1), network(2), **options).run(tmp_path)


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"bank": 7}, ("bank",), "a bank of 7 images holds no pseudo-batch of 8"),
        ({"augmentations": ["flip", "mixup"]}, ("augmentations", 1), "'mixup' mixes labels, and pseudo-images have"),
        ({"augmentations": ["color-jitter"]}, ("augmentations", 0), "changes colours of 8 bits"),
        ({"augmentations": ["alternating-flip"]}, ("augmentations", 0), "counts epochs, and here are none"),
    ],
)
def test_what_is_refused(options: dict[str, Any], path: tuple[object, ...], problem: str) -> None:
    with pytest.raises(SpecError, match=problem) as error:
        loop(network(1), network(2), **options)
    assert error.value.path == path
