"""Transition curves of two networks: many paths at a time beside one image and one class at a time, in one run.

    python -m benchmarks.compare

The plain way is the one of released code: both networks forward and the student backward for each step of each path,
with the gradients of all weights, fp32, contiguous. Ours walks the paths of several images through frozen networks
whose batch norms are folded away, in fp32 and, where the processor has it, in bf16; "each path from its own start" is
ours without the first pass that the paths of an image share.

The limit is arithmetic, not a way to do it: the multiply-adds of a walk of K steps, at the processor's best rate in a
large matrix product. Where an image costs S in the student's pass forward and T in the teacher's, and J paths lead from
it, a step of a path costs as follows, as the gradient to the image takes S once more, and the last step has none:

    ((K - 1 + 1 / J) * (S + T) + (K - 1) * S) / K.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.common import Turn, arguments, by_torch, compare, offer_processor_time, show, synchronise
from benchmarks.images import CLASSES, SHAPE
from nasdistill.distill.teacher import FrozenTeacher, Teacher
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import multiply_adds
from nasdistill.training.engine import Engine, EngineSettings, resolve
from nasdistill.zero_shot.transition import in_order, other_classes, walk

BASELINE = "one path at a time"
PATHS = CLASSES - 1
"""From each image."""
SIDE, PRODUCTS = 1024, 32
"""Rows and columns of the matrices whose products tell the processor's rate, and how many are timed in a turn."""
SIDE_ON_GPU = 8192
"""There: a product of smaller ones takes less time than its launch."""


def network(model: str) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = MODELS.parse(model).build(SHAPE, CLASSES)
    return built.eval()


def turn_of(run: Callable[[], object], work: float, options: argparse.Namespace) -> Turn:
    """The turn of a rival that does `work` steps of a path in a run: seconds for one of them each."""

    def turn(runs: int) -> float:
        synchronise()
        start = options.clock()
        for _ in range(runs):
            run()
        synchronise()
        return float(options.clock() - start) / work

    return turn


def plain(options: argparse.Namespace, device: torch.device) -> Turn:
    student, teacher = (network(model).to(device) for model in (options.student, options.teacher))
    start = torch.randn(1, *SHAPE, device=device)
    towards = torch.tensor([1], device=device)

    def path() -> None:
        image = start.clone().requires_grad_()
        for _ in range(options.path_steps):
            logits = student(image)
            with torch.no_grad():
                theirs = teacher(image)
            student.zero_grad()
            functional.cross_entropy(logits, towards).backward()
            assert image.grad is not None
            with torch.no_grad():
                image.sub_(image.grad)
                image.grad.zero_()
                float(logits.softmax(1)[0, 1]), float(theirs.softmax(1)[0, 1])

    return by_torch(turn_of(path, options.path_steps, options))


class AtWork:
    """A frozen network on an engine, as the stage has it."""

    def __init__(self, model: str, precision: str) -> None:
        self.engine = Engine(EngineSettings(precision=precision))
        self.frozen = FrozenTeacher(Teacher(network(model)), SHAPE, (), None)
        self.engine.place(self.frozen.network)
        self.multiply_adds = multiply_adds(self.frozen.network, SHAPE)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        with self.engine.autocast():
            return self.frozen(images).logits

    def at_matrix_rate(self, passes: float, options: argparse.Namespace) -> Turn:
        """So many passes forward, at the rate of the quickest of many matrix products in the engine's precision."""
        kind = torch.bfloat16 if self.engine.precision == "bf16" else torch.float32
        side = SIDE_ON_GPU if self.engine.device.type == "cuda" else SIDE
        left, right = (torch.randn(side, side, device=self.engine.device, dtype=kind) for _ in range(2))
        product = turn_of(lambda: left @ right, side**3 / (passes * self.multiply_adds), options)
        return lambda runs: runs * min(product(1) for _ in range(PRODUCTS))


def ours(student: AtWork, teacher: AtWork, options: argparse.Namespace, *, apart: bool = False) -> Turn:
    engine, steps = student.engine, options.path_steps
    images = torch.randn(options.images, *SHAPE).to(engine.device, memory_format=engine.memory_format)
    towards = other_classes(torch.zeros(options.images, dtype=torch.int64), CLASSES).to(engine.device)
    if apart:
        images, towards = torch.cat([images] * PATHS), in_order(towards)[:, None]
    work = options.images * PATHS * steps
    return turn_of(lambda: list(walk(student, teacher, images, towards, steps)), work, options)


def limit(student: AtWork, teacher: AtWork, options: argparse.Namespace) -> Turn:
    steps = options.path_steps
    forward, backward = (steps - 1 + 1 / PATHS) / steps, (steps - 1) / steps
    students = student.at_matrix_rate(forward + backward, options)
    teachers = teacher.at_matrix_rate(forward, options)
    return lambda runs: students(runs) + teachers(runs)


def main() -> None:
    parser = arguments("transition curves, batched beside one path at a time and beside their arithmetic")
    parser.add_argument("--student", default="wrn-16-1", help="whose gradient is followed (default wrn-16-1)")
    parser.add_argument("--teacher", default="wrn-40-2", help="what it is compared with (default wrn-40-2)")
    parser.add_argument("--images", type=int, default=14, help="whose paths are walked together (default 14)")
    parser.add_argument("--path-steps", type=int, default=10, help="steps of a path (default 10)")
    offer_processor_time(parser)
    parser.set_defaults(steps=1, warmup=1)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    _, best = resolve(EngineSettings())
    pairs = {"fp32": ("32", "32")}
    if best == "bf16":
        pairs |= {"the teacher in bf16": ("32", "bf16"), "bf16": ("bf16", "bf16")}
    ways = {
        name: (AtWork(options.student, of_student), AtWork(options.teacher, of_teacher))
        for name, (of_student, of_teacher) in pairs.items()
    }
    rivals = {BASELINE: plain(options, ways["fp32"][0].engine.device)}
    rivals["nasdistill, fp32, each path from its own start"] = ours(*ways["fp32"], options, apart=True)
    for name, networks in ways.items():
        rivals |= {f"nasdistill, {name}": ours(*networks, options), f"limit, {name}": limit(*networks, options)}
    title = (
        f"Transition curves, {options.student} beside {options.teacher}, {options.path_steps} steps, "
        f"{options.images * PATHS} paths together"
    )
    measured = compare(title, rivals, work=1, baseline=BASELINE, unit="steps/s", options=options)
    shares = [
        dataclasses.replace(
            measured,
            title=f"The same beside its limit, {name}",
            baseline=f"limit, {name}",
            rates={rival: measured.rates[rival] for rival in (f"nasdistill, {name}", f"limit, {name}")},
        )
        for name in ways
    ]
    show([measured, *shares], options.json)


if __name__ == "__main__":
    main()
