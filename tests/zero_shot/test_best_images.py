"""Which images of a pseudo-batch the student sees, and a bank remembers: the last ones, or those of the best step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zero_shot.parts import GENERATOR, loop, network
from tests.zero_shot.test_bank import NORMALISATION, byte

STEPS = 5


def went(folder: Path, generator: Any, images: str, **settings: Any) -> list[tuple[list[float], list[Any], list[Any]]]:
    """Of each iteration the losses of the generator's steps, what it made in each, and what the student saw."""
    student, teacher = network(1), network(2, channels=6)
    made = loop(
        *(student, teacher),
        generator=generator,
        losses=["class-prior", {"name": "batch-norm", "weight": 0.5}],
        normalisation=NORMALISATION,
        images=images,
        pseudo_batches=3,
        generator_steps=STEPS,
        generator_optimizer={"name": "adam", "lr": 5},  # far too large, so that losses go up and down
        **settings,
    )
    generation, losses, shown, seen = made.generation, [], [], []
    make = generation.images

    def noted(*given: torch.Tensor) -> torch.Tensor:
        shown.append(make(*given))
        return shown[-1]

    generation.images = noted  # type: ignore[method-assign]
    generation.register_forward_hook(
        lambda _m, _given, named: losses.append(float(torch.stack(list(named.values())).sum().detach()))
    )
    student.register_forward_pre_hook(lambda _m, read: seen.append(read[0].detach().clone()))
    made.run(folder)
    in_turn, per_iteration = len(shown) // 3, len(seen) // 3
    return [
        (losses[at * STEPS :][:STEPS], shown[at * in_turn :][:in_turn], seen[at * per_iteration :][:per_iteration])
        for at in range(3)
    ]


@pytest.mark.parametrize("generator", [GENERATOR, {"name": "pixels", "jitter": 2, "flip": True}], ids=str)
def test_the_student_sees_the_images_of_the_step_with_the_least_loss(generator: Any, tmp_path: Path) -> None:
    """As they were made, not as they were moved for the losses."""
    best = set()
    for losses, shown, seen in went(tmp_path, generator, "best"):
        least = losses.index(min(losses))
        best.add(least)
        assert all(torch.equal(each, shown[least]) for each in seen)
    assert best != {STEPS - 1}, "else this shows nothing"


def test_by_default_it_sees_those_after_the_last_step(tmp_path: Path) -> None:
    for losses, shown, seen in went(tmp_path, GENERATOR, "last"):
        assert len(losses) == len(shown) - 1
        assert all(torch.equal(each, shown[-1]) for each in seen)


def test_the_bank_remembers_them(tmp_path: Path) -> None:
    """A bank of one pseudo-batch: in later steps the student sees the same images, as bytes and in another order."""
    for losses, shown, (first, *others) in went(tmp_path, GENERATOR, "best", bank=8):
        least = shown[losses.index(min(losses))]
        assert torch.equal(first, least)
        for seen in others:
            assert {byte(image) for image in seen} == {byte(image) for image in least}
