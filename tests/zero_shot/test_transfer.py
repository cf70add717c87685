"""The loop of zero-shot transfer, seen from outside: what each network reads, when, and what changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from nasdistill.training.losses import Diverged
from nasdistill.zero_shot.generators import GENERATORS
from nasdistill.zero_shot.generators.convolutional import ConvolutionalGenerator
from nasdistill.zero_shot.transfer import Course, transfer
from tests.distill.nets import TwoMaps
from tests.training.parts import FixedBatches, engine
from tests.zero_shot.parts import CLASSES, GENERATOR, SEED, SHAPE, loop, network, watched

GENERATOR_STEPS, STUDENT_STEPS, ITERATIONS = 2, 3, 2
STEPS: dict[str, Any] = {
    "generator_steps": GENERATOR_STEPS,
    "student_steps": STUDENT_STEPS,
    "pseudo_batches": ITERATIONS,
}


def copy_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items()}


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_each_network_reads_in_an_iteration(tmp_path: Path) -> None:
    """Latents once; the generator's steps; then all steps of the student on the updated generator's images."""
    student, teacher = network(1), network(2, channels=6)
    made = loop(student, teacher, **STEPS)
    generator = made.generation.generator
    drawn: list[torch.Tensor] = []
    generator.register_forward_pre_hook(lambda _, given: drawn.append(given[0].clone()))
    of_student = watched(student)
    expected: list[torch.Tensor] = []

    def make_once_more(*_: object) -> None:
        """Before the first student step: what the generator, as it is now, makes of the latents in training mode."""
        if len(of_student) % (GENERATOR_STEPS + STUDENT_STEPS) == GENERATOR_STEPS + 1:
            again = GENERATORS.parse(GENERATOR).build(SHAPE, 16, CLASSES).train()
            again.load_state_dict(generator.state_dict())
            with torch.no_grad():
                expected.append(again(drawn[-1]))

    student.register_forward_pre_hook(make_once_more)
    made.run(tmp_path)

    assert len(drawn) == ITERATIONS * (GENERATOR_STEPS + 1)
    assert len(of_student) == ITERATIONS * (GENERATOR_STEPS + STUDENT_STEPS)
    for iteration in range(ITERATIONS):
        latents = drawn[iteration * (GENERATOR_STEPS + 1) :][: GENERATOR_STEPS + 1]
        assert all(torch.equal(latents[0], each) for each in latents)
        calls = of_student[iteration * (GENERATOR_STEPS + STUDENT_STEPS) :][: GENERATOR_STEPS + STUDENT_STEPS]
        judged, learned = calls[:GENERATOR_STEPS], calls[GENERATOR_STEPS:]
        assert all(call.graph and not call.weights_learn for call in judged), "gradients pass, none for its weights"
        assert all(call.weights_learn and not call.graph for call in learned), "pseudo-images are detached"
        assert all(torch.equal(call.images, learned[0].images) for call in learned)
        torch.testing.assert_close(learned[0].images, expected[iteration], rtol=0, atol=1e-5)
        assert (judged[-1].images - expected[iteration]).abs().max() > 1e-3, "before the update they were others"
    assert not torch.equal(drawn[0], drawn[-1]), "latents are drawn for each iteration"


def test_the_teacher_is_asked_once_for_the_student_and_once_a_step_for_the_generator(tmp_path: Path) -> None:
    student, teacher = network(1), network(2, channels=6)
    of_teacher = watched(teacher)
    before = copy_of(teacher.state_dict())
    made = loop(student, teacher, **STEPS)
    copies = {id(call.module): (call.module, copy_of(call.module.state_dict())) for call in of_teacher}
    of_student = watched(student)
    of_teacher.clear()
    made.run(tmp_path)

    wanted = [*[True] * GENERATOR_STEPS, False] * ITERATIONS
    assert [call.graph for call in of_teacher] == wanted
    assert not any(call.weights_learn for call in of_teacher)
    assert {call.training for call in of_teacher} == {frozenset([False])}
    asked = [call.images for call in of_teacher if not call.graph]
    learned = [call.images for call in of_student if not call.graph][::STUDENT_STEPS]
    assert all(torch.equal(*pair) for pair in zip(asked, learned, strict=True))

    assert same(teacher.state_dict(), before)
    at_work = {id(call.module): call.module for call in of_teacher}
    for key, module in at_work.items():
        assert all(parameter.grad is None for parameter in module.parameters())
        if key in copies:
            assert same(module.state_dict(), copies[key][1])


def test_the_student_is_in_training_mode_in_every_step_also_after_evaluations(tmp_path: Path) -> None:
    student = network(1, dropout=0.5)
    made = loop(student, network(2), evaluate_every=1, **STEPS)
    seen = watched(student)
    images = torch.randn(5, *SHAPE)
    made.run(tmp_path, FixedBatches(images, torch.arange(5) % CLASSES, 5))
    evaluated, stepped = (
        [call for call in seen if len(call.images) == count] for count in (5, made.settings.batch_size)
    )
    assert {call.training for call in evaluated} == {frozenset([False])}
    assert len(evaluated) == ITERATIONS
    assert {call.training for call in stepped} == {frozenset([True])}
    assert len(stepped) == ITERATIONS * (GENERATOR_STEPS + STUDENT_STEPS)
    # Batch norm counts the batches that it saw in training mode: those of the generator's steps too.
    norm = student.first[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked == ITERATIONS * (GENERATOR_STEPS + STUDENT_STEPS)


def test_batch_norm_statistics_of_the_student_follow_the_generators_steps(tmp_path: Path) -> None:
    student = network(1)
    made = loop(student, network(2), generator_steps=2, pseudo_batches=1, student_steps=1)
    seen = watched(student)
    norm, conv = student.first[1], student.first[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    mean, (weight, bias) = norm.running_mean.clone(), [parameter.detach().clone() for parameter in conv.parameters()]
    made.run(tmp_path)
    for call in seen:  # its weights change after the last of these
        maps = functional.conv2d(call.images, weight, bias, padding=1)
        mean = 0.9 * mean + 0.1 * maps.mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, mean)


def test_no_gradients_are_computed_but_those_that_are_used(tmp_path: Path) -> None:
    """The multiplications of one iteration, counted, are those of the algorithm."""
    student, teacher = network(1), network(2, channels=6)
    made = loop(student, teacher, batch_size=8, generator_steps=2, student_steps=3, pseudo_batches=1, pictures=0)
    with FlopCounterMode(display=False) as counter:
        made.run(tmp_path)

    def forward(module: nn.Module, *shape: int) -> int:
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            module(torch.zeros(8, *shape))
        return int(counted.get_total_flops())

    generator = made.generation.generator
    assert isinstance(generator, ConvolutionalGenerator)
    latent, asked, taught = forward(generator, 5), forward(teacher, *SHAPE), forward(student, *SHAPE)
    linear, first = forward(generator[0], 5), forward(student.first[0], *SHAPE)
    # Backward costs as much as forward for what a layer reads, and once more for its weights. The latents and the
    # student's images want no gradient; both networks' weights want none while the generator steps.
    step_of_generator = latent + asked + taught + (2 * latent - linear) + asked + taught
    step_of_student = taught + 2 * taught - first
    assert counter.get_total_flops() == 2 * step_of_generator + latent + asked + 3 * step_of_student


class Deaf(nn.Module):
    """Says the same about every image, and can learn what."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([1.0, 0.0, -1.0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), CLASSES)


def test_gradients_reach_the_generator_through_the_teacher(tmp_path: Path) -> None:
    """Also where nothing comes through the student: the step is autograd's by hand through the plain teacher."""
    teacher = network(2)
    rate = 10.0
    plain = {"name": "sgd", "lr": rate, "momentum": 0, "weight_decay": 0, "nesterov": False}
    made = loop(
        *(Deaf(), teacher),
        objectives=["divergence"],
        generator_optimizer=plain,
        clip=None,
        pseudo_batches=1,
    )
    generator = made.generation.generator
    before = [parameter.detach().clone() for parameter in generator.parameters()]
    latents, _ = made.generation.sample(SEED, 0)
    images = generator.train()(latents)
    student = made.student(images).detach().log_softmax(1)
    believed = teacher.eval()(images).softmax(1)
    loss = -(believed * (believed.log() - student)).mean()
    gradients = torch.autograd.grad(loss, list(generator.parameters()))
    made.run(tmp_path)
    moved = [(old - new) / rate for old, new in zip(before, generator.parameters(), strict=True)]
    assert max(gradient.abs().max().item() for gradient in gradients) > 1e-3
    torch.testing.assert_close(moved, list(gradients), atol=1e-6, rtol=1e-3)


def test_gradients_of_both_networks_are_cut_to_the_norm_of_5(tmp_path: Path) -> None:
    """Plain descent with rate 1 moves the weights by the gradient; losses are a million times as large as usual."""
    plain = {"name": "sgd", "lr": 1.0, "momentum": 0, "weight_decay": 0, "nesterov": False}
    huge: dict[str, Any] = {
        "objectives": [{"name": "divergence", "weight": 1e6}],
        "losses": [{"name": "adversarial", "weight": 1e6}],
    }
    moves = {}
    for clip in (5.0, 0.25):
        made = loop(
            *(network(1), network(2)),
            **huge,
            clip=clip,
            optimizer=plain,
            generator_optimizer=plain,
            pseudo_batches=1,
            student_steps=1,
        )
        before = [flat(module) for module in (made.student, made.generation)]
        made.run(tmp_path / str(clip))
        after = [flat(module) for module in (made.student, made.generation)]
        moves[clip] = [(new - old).norm().item() for old, new in zip(before, after, strict=True)]
    assert moves == {5.0: pytest.approx([5, 5], rel=1e-3), 0.25: pytest.approx([0.25, 0.25], rel=1e-3)}
    assert loop(network(1), network(2)).settings.clip == 5.0


def test_both_learning_rates_fall_by_a_cosine_once_per_iteration(tmp_path: Path) -> None:
    iterations = 6
    made = loop(network(1), network(2), pseudo_batches=iterations, generator_steps=2, student_steps=3)
    rates: dict[int, list[float]] = {}

    def read(optimizer: torch.optim.Optimizer, *_: object) -> None:
        rates.setdefault(optimizer.param_groups[0]["params"][0].numel(), []).append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_pre_hook(read)
    made.run(tmp_path)
    handle.remove()
    parameter = nn.Parameter(torch.zeros(1))
    for module, peak, steps in ((made.generation, 1e-3, 2), (made.student, 2e-3, 3)):
        reference = torch.optim.SGD([parameter], lr=peak)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(reference, iterations)
        expected = []
        for _ in range(iterations):
            expected += [reference.param_groups[0]["lr"]] * steps
            reference.step()
            cosine.step()
        assert rates[next(module.parameters()).numel()] == pytest.approx(expected)


def by_hand(student: TwoMaps, generator: nn.Module, teacher: TwoMaps, latents: list[torch.Tensor]) -> None:
    """Algorithm 1 with the order of its released code, in plain torch: all three change as they should."""

    def attention(maps: torch.Tensor) -> torch.Tensor:
        return functional.normalize(maps.pow(2).mean(1).flatten(1))

    def outputs(module: TwoMaps, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        first = module.first(images)
        second = module.second(first)
        return module.classifier(second.mean(dim=(2, 3))), [first, second]

    def divergence(said: torch.Tensor, believed: torch.Tensor) -> torch.Tensor:
        target = functional.softmax(believed, dim=1)
        return (target * (target.log() - functional.log_softmax(said, dim=1))).mean()

    optimizers = [torch.optim.Adam(generator.parameters(), 1e-3), torch.optim.Adam(student.parameters(), 2e-3)]
    falls = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(latents)) for optimizer in optimizers]
    teacher.eval()
    student.train()
    generator.train()

    def step(loss: torch.Tensor, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 5)
        optimizer.step()

    for drawn in latents:
        for _ in range(GENERATOR_STEPS):
            images = generator(drawn)
            step(-divergence(outputs(student, images)[0], outputs(teacher, images)[0]), generator, optimizers[0])
        images = generator(drawn).detach()
        believed, seen = outputs(teacher, images)
        for _ in range(STUDENT_STEPS):
            said, own = outputs(student, images)
            loss = divergence(said, believed.detach())
            for ours, theirs in zip(own, seen, strict=True):
                loss = loss + 250 * (attention(ours) - attention(theirs.detach())).pow(2).mean()
            step(loss, student, optimizers[1])
        for fall in falls:
            fall.step()


def test_whole_iterations_are_those_of_the_algorithm_in_plain_torch(tmp_path: Path) -> None:
    student, teacher = network(1), network(2, channels=6)
    made = loop(student, teacher, **{**STEPS, "pseudo_batches": 3})
    generator = made.generation.generator
    other, another = network(1), GENERATORS.parse(GENERATOR).build(SHAPE, 16, CLASSES)
    another.load_state_dict(generator.state_dict())
    by_hand(other, another, teacher, [made.generation.sample(SEED, done)[0] for done in range(3)])
    made.run(tmp_path)
    for ours, theirs in ((student, other), (generator, another)):
        for name, parameter in ours.named_parameters():
            # Biases in front of a batch norm change nothing; Adam makes steps of their gradients' rounding errors.
            if not name.endswith("bias") or "norm" in name or "classifier" in name:
                torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=0, atol=1e-6)


def test_nothing_is_on_disk_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = loop(network(1), network(2))
    course = transfer(made.task, made.generation, made.settings, engine(), SEED)
    assert course.done == made.settings.pseudo_batches
    assert list(tmp_path.iterdir()) == []


def test_latents_are_drawn_evenly_and_differ_by_place() -> None:
    made = loop(network(1), network(2), generator={**GENERATOR, "latents": 100}, batch_size=128)
    (first, targets), (again, _), *others = (
        made.generation.sample(*place) for place in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert torch.equal(first, again)
    assert all(not torch.equal(first, other) for other, _ in others)
    # 12800 numbers of N(0, 1): mean and variance within five standard errors.
    assert abs(first.mean().item()) < 5 / 12800**0.5
    assert abs(first.var().item() - 1) < 5 * (2 / 12800) ** 0.5
    assert targets.bincount(minlength=CLASSES).min() > 20


def test_a_last_step_that_breaks_the_weights_is_not_kept(tmp_path: Path) -> None:
    """The losses of the last iteration are numbers still; what it leaves is not."""
    rule = {"name": "sgd", "lr": 1e38, "momentum": 0, "weight_decay": 0, "nesterov": False}
    huge = [{"name": "divergence", "weight": 1e6}]
    made = loop(network(1), network(2), optimizer=rule, objectives=huge, clip=None, pseudo_batches=1, student_steps=1)
    with pytest.raises(Diverged, match=r"is not finite after step 1; there is no checkpoint yet"):
        made.run(tmp_path)


class Dropping(TwoMaps):
    """With drop path, as networks of searched cells have it; writes down how likely it is."""

    drop_path = 0.3

    def __init__(self) -> None:
        super().__init__(classes=CLASSES)
        self.heard: list[float] = []

    def set_drop_path(self, probability: float) -> None:
        self.heard.append(probability)


def test_drop_path_rises_over_the_run(tmp_path: Path) -> None:
    student = Dropping()
    loop(student, network(2), pseudo_batches=3).run(tmp_path)
    assert student.heard == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("clip", [None, 1e-4])
def test_the_norms_of_both_gradients_are_curves_as_they_were_before_clipping(
    tmp_path: Path, clip: float | None
) -> None:
    def run(clip: float | None) -> tuple[Course, list[float]]:
        """The curves, and the norm of the gradients that each optimizer step of the only iteration got to see."""
        norms: list[float] = []

        def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
            gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
            norms.append(float(torch.cat(gradients).norm()))

        made = loop(network(1), network(2, channels=6), **STEPS | {"pseudo_batches": 1, "clip": clip})
        hook = register_optimizer_step_pre_hook(note)
        try:
            return made.run(tmp_path / str(clip)), norms
        finally:
            hook.remove()

    _course, unclipped = run(None)
    course, seen = run(clip)
    assert len(seen) == GENERATOR_STEPS + STUDENT_STEPS
    # The first steps of both start from the same weights; clipped, later ones do not.
    assert seen == pytest.approx(unclipped if clip is None else [clip] * len(seen), rel=1e-2)
    last = {"generator": seen[GENERATOR_STEPS - 1], "student": seen[-1]}
    for who, norm in last.items():
        ((done, shown),) = course.curves[f"gradient norm/{who}"]
        assert done == 1
        assert shown == pytest.approx(norm) if clip is None else shown > 10 * clip
