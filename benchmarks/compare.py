"""Transition curves of two networks: many paths at a time beside one image and one class at a time, in one run.

    python -m benchmarks.compare

The plain way is the one of released code: both networks forward and the student backward for each step of each path,
with the gradients of all weights, fp32, contiguous. Ours walks a batch of paths through frozen networks whose batch
norms are folded away, in fp32 and, where the processor has it, in bf16. The last rivals are bounds, not ways to do it:
the convolutions of our way with nothing between them.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.common import Turn, arguments, compare, show, synchronise
from benchmarks.images import CLASSES, SHAPE
from nasdistill.distill.teacher import FrozenTeacher, Teacher
from nasdistill.models.base import MODELS
from nasdistill.training.engine import Engine, EngineSettings, resolve
from nasdistill.zero_shot.transition import Network, walk

BASELINE = "one path at a time"
PLAIN_STEPS = 16
"""Steps of a path in a turn's step: a turn of the baseline would be too short to time with one."""


def network(model: str) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = MODELS.parse(model).build(SHAPE, CLASSES)
    return built.eval()


def turn_of(steps_of: Iterator[object], work: int) -> Turn:
    """The turn of a rival whose step does `work` steps of a path: seconds for one of them each."""

    def turn(steps: int) -> float:
        synchronise()
        start = time.perf_counter()
        for _ in itertools.islice(steps_of, steps):
            pass
        synchronise()
        return (time.perf_counter() - start) / work

    return turn


def plain(options: argparse.Namespace, device: torch.device) -> Turn:
    student, teacher = network(options.student).to(device), network(options.teacher).to(device)
    image = torch.randn(1, *SHAPE, device=device).requires_grad_()
    towards = torch.tensor([1], device=device)

    def step() -> tuple[float, float]:
        logits = student(image)
        with torch.no_grad():
            theirs = teacher(image)
        student.zero_grad()
        functional.cross_entropy(logits, towards).backward()
        assert image.grad is not None
        with torch.no_grad():
            image.sub_(image.grad)
            image.grad.zero_()
            return float(logits.softmax(1)[0, 1]), float(theirs.softmax(1)[0, 1])

    return turn_of(iter(lambda: [step() for _ in range(PLAIN_STEPS)], None), PLAIN_STEPS)


class Ours:
    """Our way on an engine, and the bound of its convolutions."""

    def __init__(self, options: argparse.Namespace, precision: str) -> None:
        self.engine = engine = Engine(EngineSettings(precision=precision))
        self.networks = []
        for model in (options.student, options.teacher):
            frozen = FrozenTeacher(Teacher(network(model)), SHAPE, (), None)
            engine.place(frozen.network)
            self.networks.append(frozen)
        self.images = torch.randn(options.paths, *SHAPE).to(engine.device, memory_format=engine.memory_format)
        self.paths = options.paths

    def logits(self, number: int) -> Network:
        def said(images: torch.Tensor) -> torch.Tensor:
            with self.engine.autocast():
                return self.networks[number](images).logits

        return said

    def walking(self, teacher: Ours | None = None) -> Turn:
        towards = torch.ones(self.paths, dtype=torch.int64, device=self.engine.device)
        endless = walk(self.logits(0), (teacher or self).logits(1), self.images, towards, steps=10**9)
        return turn_of(endless, self.paths)

    def convolutions(self) -> Turn:
        calls: list[tuple[nn.Module, torch.Tensor, bool]] = []
        for number, frozen in enumerate(self.networks):
            layers = [layer for layer in frozen.network.modules() if isinstance(layer, nn.Conv2d)]
            handles = [
                layer.register_forward_hook(
                    lambda layer, inputs, _output, backward=number == 0: calls.append((layer, inputs[0], backward))
                )
                for layer in layers
            ]
            with torch.no_grad():
                self.logits(number)(self.images)
            for handle in handles:
                handle.remove()

        def once() -> None:
            with self.engine.autocast():
                for layer, images, backward in calls:
                    if not backward:
                        with torch.no_grad():
                            layer(images)
                        continue
                    asked = images.detach().requires_grad_()
                    output = layer(asked)
                    torch.autograd.grad(output, asked, output.detach())

        return turn_of(iter(lambda: (once(),), None), self.paths)


def main() -> None:
    parser = arguments("transition curves, batched beside one path at a time")
    parser.add_argument("--student", default="wrn-16-1", help="whose gradient is followed (default wrn-16-1)")
    parser.add_argument("--teacher", default="wrn-40-2", help="what it is compared with (default wrn-40-2)")
    parser.add_argument("--paths", type=int, default=128, help="paths walked together (default 128)")
    parser.set_defaults(steps=4, warmup=1)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    _, best = resolve(EngineSettings())
    ways = {"fp32": Ours(options, "32")} | ({"bf16": Ours(options, "bf16")} if best == "bf16" else {})
    rivals = {BASELINE: plain(options, ways["fp32"].engine.device)}
    rivals |= {f"nasdistill, {name}": ours.walking() for name, ours in ways.items()}
    if "bf16" in ways:
        rivals["nasdistill, the teacher in bf16"] = ways["fp32"].walking(teacher=ways["bf16"])
    rivals |= {f"bound: its convolutions, {name}": ours.convolutions() for name, ours in ways.items()}
    title = f"Transition curves, {options.student} beside {options.teacher}, {options.paths} paths together"
    show([compare(title, rivals, work=1, baseline=BASELINE, unit="steps/s", options=options)], options.json)


if __name__ == "__main__":
    main()
