"""How the generator comes to a pseudo-batch, seen from the loop: drawn anew, from common weights, with its latents."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nasdistill.errors import UserError
from nasdistill.zero_shot.life import Life
from tests.zero_shot.parts import GENERATOR, SEED, Loop, loop, network

RATE, META_RATE, STEPS = 0.5, 0.25, 3
PLAIN: dict[str, Any] = {"name": "sgd", "momentum": 0, "weight_decay": 0, "nesterov": False}


def made(**settings: Any) -> Loop:
    return loop(
        *(network(1), network(2, channels=6)),
        **{
            "generator_steps": STEPS,
            "generator_optimizer": {**PLAIN, "lr": RATE},
            "generator_schedule": "constant",
            "adapt_optimizer": {**PLAIN, "lr": META_RATE},
            "clip": None,
            "pseudo_batches": 4,
            "student_steps": 1,
            **settings,
        },
    )


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def course_of(loop_: Loop, folder: Path) -> list[list[list[torch.Tensor]]]:
    """Of each iteration the generator's weights as each of its passes found them; the last one is after all steps."""
    seen: list[list[torch.Tensor]] = []
    generator = loop_.generation.generator
    generator.register_forward_pre_hook(lambda *_: seen.append(weights(generator)))
    loop_.run(folder)
    return [seen[at : at + STEPS + 1] for at in range(0, len(seen), STEPS + 1)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def close(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_it_learns_over_all_pseudo_batches_unless_asked_otherwise(tmp_path: Path) -> None:
    iterations = course_of(made(), tmp_path)
    for before, after in pairwise(iterations):
        assert same(before[-1], after[0])


def test_it_is_drawn_anew_every_few_iterations(tmp_path: Path) -> None:
    iterations = course_of(made(start_over_every=2), tmp_path)
    assert [same(iterations[at - 1][-1], iterations[at][0]) for at in (1, 2, 3)] == [True, False, True]
    for done in (0, 2):
        expected = made().generation
        expected.start_over(SEED, done)
        assert same(iterations[done][0], weights(expected.generator))


@pytest.mark.parametrize("rule", ["fomaml", "reptile"])
def test_every_pseudo_batch_starts_at_common_weights_which_learn_from_its_steps(rule: str, tmp_path: Path) -> None:
    """With plain descent the steps of a pseudo-batch go RATE times the sum of their gradients."""
    iterations = course_of(made(adapt=rule), tmp_path)
    common = weights(made().generation.generator)
    for first, *_, last in iterations:
        close(first, common)
        went = [there - here for here, there in zip(first, last, strict=True)]
        assert max(float(each.abs().max()) for each in went) > 1e-3
        scale = META_RATE / RATE if rule == "fomaml" else META_RATE
        common = [here + scale * way for here, way in zip(first, went, strict=True)]


def test_moments_of_one_pseudo_batch_do_not_reach_the_next(tmp_path: Path) -> None:
    """The first step of Adam with empty moments is its rate long, in whichever iteration."""
    adam = {"name": "adam", "lr": 1e-2}
    rest = {"generator_optimizer": adam, "adapt_optimizer": {**PLAIN, "lr": 1e-12}}
    for first, second, *_ in course_of(made(adapt="reptile", **rest), tmp_path):
        lengths = torch.cat([(b - a).abs().flatten() for a, b in zip(first, second, strict=True)])
        torch.testing.assert_close(lengths.median(), torch.tensor(1e-2), rtol=1e-2, atol=0)


def test_a_loss_that_learns_keeps_its_moments(tmp_path: Path) -> None:
    """Its perceptron's, where the generator is drawn anew and begins without any."""
    moments: list[int] = []
    loop_ = made(
        losses=[{"name": "contrastive", "memory": 8, "embedding": 4}],
        start_over_every=1,
        generator_optimizer={"name": "adam", "lr": 1e-3},
    )
    learned = [each for name, each in loop_.generation.named_parameters() if not name.startswith("generator")]
    assert [each.shape[0] for each in learned] == [12, 12, 4, 4], "six channels in front of each of two norms"

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        if any(each is learned[0] for group in optimizer.param_groups for each in group["params"]):
            moments.append(sum(each in optimizer.state for each in optimizer.param_groups[0]["params"]))

    handle = register_optimizer_step_pre_hook(note)
    loop_.run(tmp_path)
    handle.remove()
    everything = len(list(loop_.generation.parameters()))
    assert moments == [0, everything, everything, *[4, everything, everything] * 3]


def test_common_weights_start_over_with_the_generator(tmp_path: Path) -> None:
    iterations = course_of(made(adapt="fomaml", start_over_every=2), tmp_path)
    for done in (0, 2):
        expected = made().generation
        expected.start_over(SEED, done)
        assert same(iterations[done][0], weights(expected.generator))
    assert not same(iterations[1][0], iterations[0][0])


def test_latents_learn_beside_the_generator_for_their_pseudo_batch_alone(tmp_path: Path) -> None:
    """Under Adam a first step is as long as the rate, times the speed."""
    rate, speed = 1e-3, 5
    loop_ = made(latent_speed=speed, generator_optimizer={"name": "adam", "lr": rate})
    read: list[torch.Tensor] = []
    loop_.generation.generator.register_forward_pre_hook(lambda _, given: read.append(given[0].detach().clone()))
    loop_.run(tmp_path)
    for done in range(4):
        drawn, _targets = loop_.generation.sample(SEED, done)
        first, second, *_, last = read[done * (STEPS + 1) :][: STEPS + 1]
        torch.testing.assert_close(first, drawn)
        torch.testing.assert_close((second - drawn).abs().median(), torch.tensor(rate * speed), rtol=1e-2, atol=0)
        assert rate * speed < (last - drawn).abs().max() <= STEPS * rate * speed * 1.01


def test_latents_are_no_common_weights() -> None:
    loop_ = made(latent_speed=1, adapt="fomaml")
    optimizer = loop_.settings.generator_optimizer.build(loop_.generation.parameters())
    life = Life(loop_.generation, optimizer, loop_.settings, SEED, processes=1)
    generator = list(loop_.generation.generator.parameters())
    assert [each.shape for each in life.state_dict()["common"]] == [each.shape for each in generator]


def test_what_belongs_to_one_pseudo_batch_belongs_to_one_process() -> None:
    loop_ = made(latent_speed=1)
    optimizer = loop_.settings.generator_optimizer.build(loop_.generation.parameters())
    with pytest.raises(UserError, match=r"belongs to one process, and here are 2; compute with `devices: 1`"):
        Life(loop_.generation, optimizer, loop_.settings, SEED, processes=2)


def test_a_loss_that_learns_beside_pixels_of_each_process_needs_one_process() -> None:
    """No gradient of these pixels is averaged, so the processes' perceptrons would drift apart unseen."""
    for losses, processes in ((["contrastive"], 1), (["class-prior"], 2), (["contrastive"], 2)):
        loop_ = made(generator="pixels", losses=losses)
        optimizer = loop_.settings.generator_optimizer.build(loop_.generation.parameters())
        refused = losses == ["contrastive"] and processes == 2
        with pytest.raises(UserError, match="apart in each of 2 processes") if refused else contextlib.nullcontext():
            Life(loop_.generation, optimizer, loop_.settings, SEED, processes)


def test_a_collapse_draws_common_weights_anew(tmp_path: Path) -> None:
    """Every window counts as a collapse; the first is acted on."""
    loop_ = made(adapt="fomaml", watch_every=2, collapse_below=0.999, on_collapse="restart", generator=GENERATOR)
    iterations = course_of(loop_, tmp_path)
    expected = made().generation
    expected.start_over(SEED, 2)
    assert same(iterations[2][0], weights(expected.generator))
