"""A pseudo-batch of zero-shot transfer: our loop beside the released one and beside the bare passes, in one run.

    python -m benchmarks.zero_shot

WRN-40-1 teaches WRN-16-1 on images of 3x32x32. The released loop is plain torch: fp32, contiguous, gradients of every
weight that a backward pass meets, and a generator that makes the images anew, with a graph, for each step of the
student. Ours is all of `transfer`. "Bare" is what the algorithm needs at least in our precision and layout: two forward
passes of the generator and of the teacher, a backward pass of the generator, one of the teacher and of the student to
the images, and a forward and backward pass of the student per step; no losses, no updates.

Each side runs in a process of its own and they take turns. A column of the split is the time between passing into a
network and passing on to the next one, so the student's holds its losses and updates, and the watch for a collapse.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from benchmarks.common import apart, arguments, machine, offer_processor_time, synchronise
from benchmarks.distill import network
from benchmarks.images import CLASSES, SHAPE
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import FrozenTeacher, Teacher
from nasdistill.models.inspection import feature_points
from nasdistill.registry import registry
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings, resolve
from nasdistill.training.modes import frozen
from nasdistill.training.records import Records
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.settings import TransferSettings
from nasdistill.zero_shot.transfer import transfer

RELEASED = "released, fp32, contiguous"
BETA, CLIP = 250.0, 5.0
PARTS = ("generator", "teacher", "student")
Seconds = dict[str, float]
"""By part."""


class Split:
    """A stopwatch that knows which network is at work; it follows the loop from outside, by hooks.

    In a backward pass autograd visits first the network that was called last: the student, then the teacher, then the
    generator.
    """

    def __init__(
        self, generator: nn.Module, teachers: Sequence[nn.Module], student: nn.Module, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        generator.register_forward_pre_hook(lambda _module, _inputs: self._pass_to("generator"))
        for teacher in teachers:
            teacher.register_forward_pre_hook(functools.partial(self._enter, "teacher", "generator"))
        student.register_forward_pre_hook(functools.partial(self._enter, "student", "teacher"))
        for each in (generator, *teachers):
            each.register_forward_hook(lambda _module, _inputs, _output: self._pass_to("student"))

    def timed(self, run: Callable[[], object]) -> Seconds:
        """Seconds of each network while something runs."""
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._at_work = "student"
        synchronise()
        self._since = self._clock()
        run()
        self._pass_to("student")
        return self._seconds

    def _pass_to(self, part: str) -> None:
        synchronise()
        now = self._clock()
        self._seconds[self._at_work] += now - self._since
        self._at_work, self._since = part, now

    def _enter(self, part: str, before: str, _module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Work passes to a network; in the backward pass, once its input has a gradient, to the one before it."""
        self._pass_to(part)
        images = inputs[0].view_as(inputs[0])
        if images.requires_grad:
            images.register_hook(lambda _gradient: self._pass_to(before))
        return (images,)


def networks(options: argparse.Namespace) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Generator, teacher and student, the same for all sides."""
    torch.manual_seed(0)
    generator: nn.Module = registry("generators").parse("convolutional").build(SHAPE, options.batch, CLASSES)
    return generator, network(options.teacher), network(options.student)


def attention_of(activation: torch.Tensor) -> torch.Tensor:
    return functional.normalize(activation.pow(2).mean(1).flatten(1))


def released(options: argparse.Namespace) -> Callable[[int], Seconds]:
    """The loop as the released code goes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator, teacher, student = (each.to(device) for each in networks(options))
    teacher.eval()
    split = Split(generator, [teacher], student, options.clock)
    features: dict[nn.Module, list[torch.Tensor]] = {student: [], teacher: []}
    for each, outputs in features.items():
        for point in feature_points(each, SHAPE):
            each.get_submodule(point).register_forward_hook(
                lambda _module, _inputs, output, outputs=outputs: outputs.append(output)
            )
    optimizers = {
        generator: torch.optim.Adam(generator.parameters(), lr=1e-3),
        student: torch.optim.Adam(student.parameters(), lr=2e-3),
    }

    def asked(each: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features[each].clear()
        return each(images), list(features[each])

    def divergence(said: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        return functional.kl_div(said.log_softmax(1), taught.softmax(1), reduction="none").mean()

    def descend(each: nn.Module, loss: torch.Tensor) -> None:
        optimizers[each].zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(each.parameters(), CLIP)
        optimizers[each].step()

    def iteration() -> None:
        latents = torch.randn(options.batch, 100, device=device)
        for _ in range(options.generator_steps):
            images = generator(latents)
            taught, _ = asked(teacher, images)
            said, _ = asked(student, images)
            descend(generator, -divergence(said, taught))
        for step in range(options.student_steps):
            images = generator(latents)
            if step == 0:
                with torch.no_grad():
                    taught, looked = asked(teacher, images)
            said, looks = asked(student, images.detach())
            loss = divergence(said, taught)
            for ours, theirs in zip(looks, looked, strict=True):
                loss = loss + BETA * (attention_of(ours) - attention_of(theirs)).pow(2).mean()
            descend(student, loss)

    return lambda count: split.timed(lambda: [iteration() for _ in range(count)])


def bare(options: argparse.Namespace, precision: str) -> Callable[[int], Seconds]:
    """The forward and backward passes alone, one network after the other."""
    engine = Engine(EngineSettings.model_validate({"precision": precision}))
    generator, teacher, student = networks(options)
    for each in (generator, student):
        engine.place(each).train()
    judge = FrozenTeacher(Teacher(teacher), SHAPE, (), None)
    judge.apply(lambda tensor: tensor.to(engine.device))
    engine.place(judge.network)
    latents = torch.randn(options.batch, 100, device=engine.device)
    images = torch.randn(options.batch, *SHAPE, device=engine.device).to(memory_format=engine.memory_format)

    def forward(each: nn.Module, given: torch.Tensor) -> None:
        with torch.no_grad(), engine.autocast():
            each(given)

    def both(each: nn.Module, given: torch.Tensor, *, to_input: bool = False) -> None:
        with engine.autocast():
            output = each(given.detach().requires_grad_(to_input))
        torch.autograd.backward(output.float().sum())
        each.zero_grad()

    def generators() -> None:
        for _ in range(options.generator_steps):
            both(generator, latents)
        forward(generator, latents)

    def teachers() -> None:
        for _ in range(options.generator_steps):
            both(judge.network, images, to_input=True)
        forward(judge.network, images)

    def students() -> None:
        for _ in range(options.generator_steps):
            with frozen(student):
                both(student, images, to_input=True)
        for _ in range(options.student_steps):
            both(student, images)

    def turn(count: int) -> Seconds:
        taken = dict.fromkeys(PARTS, 0.0)
        for _ in range(count):
            for part, passes in zip(PARTS, (generators, teachers, students), strict=True):
                synchronise()
                start = options.clock()
                passes()
                synchronise()
                taken[part] += options.clock() - start
        return taken

    return turn


def ours(options: argparse.Namespace, precision: str) -> Callable[[int], Seconds]:
    """All of `transfer`, its preparations and what it tells of its end included; there are no test images."""
    logging.disable(logging.WARNING)  # untrained networks give one class for all, and the watch says so
    engine = Engine(EngineSettings.model_validate({"precision": precision}))
    generator = registry("generators").parse("convolutional")
    _, teacher, student = networks(options)
    objectives = [{"name": "divergence"}, {"name": "attention", "beta": BETA}]
    task = Distillation(student, [Teacher(teacher)], [registry("objectives").parse(each) for each in objectives], SHAPE)
    adversary = registry("generator-losses").parse("adversarial")
    generation = Generation(generator, options.batch, student, [Teacher(teacher)], [adversary], SHAPE, CLASSES)
    teachers = [each.network for each in (*task.teacher_ensemble.teachers, *generation.teacher_ensemble.teachers)]
    split = Split(generation.generator, teachers, student, options.clock)

    def turn(count: int) -> Seconds:
        settings = TransferSettings(
            pseudo_batches=count,
            generator_steps=options.generator_steps,
            student_steps=options.student_steps,
            pictures=0,
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.closing(Records(Path(folder), "benchmark", quiet=True)) as records,
        ):
            checkpoints = Checkpoints(Path(folder), math.inf)
            return split.timed(lambda: transfer(task, generation, settings, engine, 0, None, checkpoints, records))

    return turn


def main() -> None:
    parser = arguments("a pseudo-batch of zero-shot transfer beside the released loop and the bare passes")
    parser.set_defaults(rounds=3, steps=1, warmup=1)
    parser.add_argument("--teacher", default="wrn-40-1", help="who teaches (default wrn-40-1)")
    parser.add_argument("--student", default="wrn-16-1", help="who learns (default wrn-16-1)")
    parser.add_argument("--batch", type=int, default=128, help="images of a pseudo-batch (default 128)")
    parser.add_argument("--generator-steps", type=int, default=1, help="of a pseudo-batch (default 1)")
    parser.add_argument("--student-steps", type=int, default=10, help="of a pseudo-batch (default 10)")
    offer_processor_time(parser)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    precisions = dict.fromkeys([resolve(EngineSettings())[1], "32"])
    rivals: dict[str, Callable[[argparse.Namespace], Callable[[int], Seconds]]] = {RELEASED: released}
    bares: dict[str, str] = {}
    for precision in precisions:
        setting = f"{'bf16' if precision == 'bf16' else 'fp32'}, channels_last"
        rivals[f"nasdistill, {setting}"] = functools.partial(ours, precision=precision)
        rivals[f"bare, {setting}"] = functools.partial(bare, precision=precision)
        bares[f"nasdistill, {setting}"] = f"bare, {setting}"

    taken: dict[str, list[Seconds]] = {rival: [] for rival in rivals}
    with contextlib.ExitStack() as stack:
        turns = {name: stack.enter_context(apart(rival, options)) for name, rival in rivals.items()}
        for turn in turns.values():
            turn(options.warmup)
        for _ in range(options.rounds):
            for name, turn in turns.items():
                seconds = turn(options.steps)
                taken[name].append({part: 1000 * each / options.steps for part, each in seconds.items()})
    show(taken, bares, options)


def show(taken: Mapping[str, Sequence[Seconds]], bares: Mapping[str, str], options: argparse.Namespace) -> None:
    """Print milliseconds per pseudo-batch, medians over the rounds, and medians of the ratios within each round."""

    def milliseconds(name: str, *parts: str) -> list[float]:
        return [sum(round_[part] for part in parts) for round_ in taken[name]]

    def ratio(name: str, other: str) -> float:
        pairs = zip(milliseconds(name, *PARTS), milliseconds(other, *PARTS), strict=True)
        return statistics.median(one / another for one, another in pairs)

    if options.json:
        ratios = {
            name: {"bare": ratio(name, other), "released": ratio(RELEASED, name)} for name, other in bares.items()
        }
        print(json.dumps({"machine": machine(), "milliseconds": taken, "ratios": ratios}, indent=2))
        return
    console = Console()
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    title = (
        f"{options.teacher} to {options.student}, {options.batch} images, {options.generator_steps} step(s) of the "
        f"generator and {options.student_steps} of the student: ms per pseudo-batch"
    )
    table = Table("", *PARTS, "all", "x bare", "speed-up", title=title, title_justify="left")
    for name in taken:
        table.add_row(
            name,
            *(f"{statistics.median(milliseconds(name, part)):.0f}" for part in PARTS),
            f"{statistics.median(milliseconds(name, *PARTS)):.0f}",
            f"{ratio(name, bares[name]):.2f}" if name in bares else "",
            f"{ratio(RELEASED, name):.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
