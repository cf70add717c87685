"""Distillation beside torchdistill 1.1.5, in one run: rates over real epochs, the processor's limit, and accuracy.

    python -m benchmarks.torchdistill --root FOLDER
    python -m benchmarks.torchdistill --root FOLDER --accuracy --teacher ARTIFACT

WRN-40-2 teaches WRN-16-2 by KD (T 4, weight 0.9). Both sides train the same modules on the same images with crops and
flips, batches of 128, SGD with Nesterov momentum, a cosine schedule and clipped gradients. torchdistill does it as its
sample configurations do: PIL images through torchvision's transforms in a `DataLoader`, a `DistillationBox` in fp32.
A turn is one epoch, without evaluations.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from benchmarks.common import Comparison, Turn, apart, arguments, compare, of_accuracies, show, synchronise
from benchmarks.distill import network
from benchmarks.images import SHAPE, random_data
from benchmarks.training import BATCH, trained
from nasdistill.data.base import Data, ImageSet
from nasdistill.data.loaders import evaluation_batches, training_batches
from nasdistill.data.preparation import load
from nasdistill.distill.cached_outputs import BatchesWithOutputs
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.models.base import load_network
from nasdistill.registry import registry
from nasdistill.training.batches import Batch, Batches
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.metrics import evaluate
from nasdistill.training.settings import TrainingSettings

BASELINE = "torchdistill, fp32"


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Images one by one, as torchvision's CIFAR10 hands them to its transforms."""

    def __init__(self, data: Data) -> None:
        assert isinstance(data.train, ImageSet)
        self._pixels = data.train.images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = data.train.labels.tolist()
        self._to_picture = transforms.ToPILImage()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(SHAPE[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.normalisation.mean, data.normalisation.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._to_picture(self._pixels[index])), self._labels[index]


def torchdistill_box(student: nn.Module, teacher: nn.Module, data: Data, epochs: int, workers: int) -> Any:
    """torchdistill's own loop, configured as its samples are."""
    from torch.utils.data import RandomSampler
    from torchdistill.core.distillation import get_distillation_box

    steps = epochs * math.ceil(len(data.train) / BATCH)
    config = {
        "num_epochs": epochs,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": BATCH, "num_workers": workers, "pin_memory": False, "drop_last": False},
        },
        "teacher": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": True},
        "optimizer": {
            "key": "SGD",
            "max_grad_norm": 5.0,
            "kwargs": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        },
        "scheduler": {"key": "CosineAnnealingLR", "kwargs": {"T_max": steps}, "scheduling_step": 1},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {
                    "kd": {
                        "criterion": {
                            "key": "KDLoss",
                            "kwargs": {
                                "student_module_path": ".",
                                "student_module_io": "output",
                                "teacher_module_path": ".",
                                "teacher_module_io": "output",
                                "temperature": 4.0,
                                "alpha": 0.1,
                                "reduction": "batchmean",
                            },
                        },
                        "weight": 1.0,
                    }
                }
            },
        },
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher, student = teacher.to(device).eval(), student.to(device)
    return get_distillation_box(teacher, student, {"train": Pictures(data)}, config, device, None, False, 1)


def epoch_of_torchdistill(box: Any, epoch: int) -> None:
    """One epoch as torchdistill's example scripts run it."""
    box.pre_epoch_process(epoch=epoch)
    for images, labels, more in box.train_data_loader:
        loss = box.forward_process(images.to(box.device), labels.to(box.device), more)
        box.post_forward_process(loss=loss)
    box.post_epoch_process(metrics=None)


def distillation(student: nn.Module, teacher: nn.Module) -> Distillation:
    objectives = with_label_term([registry("objectives").parse({"name": "kd", "temperature": 4, "weight": 0.9})])
    return Distillation(student, [Teacher(teacher)], objectives, SHAPE)


def epochs_of_torchdistill(box: Any) -> Turn:
    """Its turn: real epochs; `steps` is the number of them."""
    numbers = itertools.count()

    def turn(epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            epoch_of_torchdistill(box, next(numbers))
        synchronise()
        return time.perf_counter() - start

    return turn


def epochs_of_ours(task: Distillation, batches: Batches, data: Data, engine: Engine) -> Turn:
    """Our turn: real epochs of `fit`; `steps` is the number of them."""

    def turn(epochs: int) -> float:
        settings = TrainingSettings(epochs=epochs, batch_size=BATCH, evaluate_every=epochs)
        return (
            epochs * batches.samples / float(trained(task, batches, data, settings, engine).cost["samples_per_second"])
        )

    return turn


def multiply_adds_of_a_step(task: Distillation) -> int:
    """Of one image: the student's forward and backward passes and the teacher's forward pass."""
    images = torch.randn(2, *SHAPE)
    with FlopCounterMode(display=False) as counter:
        losses = task(Batch(images, torch.tensor([0, 1]), torch.arange(2)))
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
    return int(counter.get_total_flops()) // 2 // 2


def matrix_rate(dtype: torch.dtype, size: int = 1024, repeats: int = 20) -> float:
    """Multiply-adds per second of a product of two square matrices, the best of several.

    Both as a matrix product and as a 1x1 convolution, which is one too: a processor may have a slower library for the
    former.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    image = one.view(1, 32, -1, size).permute(0, 3, 1, 2)
    kernel = other.view(size, size, 1, 1).to(memory_format=torch.channels_last)
    seconds = []
    for product in (lambda: one @ other, lambda: functional.conv2d(image, kernel)):
        for _ in range(repeats):
            synchronise()
            start = time.perf_counter()
            product()
            synchronise()
            seconds.append(time.perf_counter() - start)
    return size**3 / min(seconds)


def real_data(options: argparse.Namespace) -> Data:
    """CIFAR-10, or random images of its shape where there is none; speed does not know the difference."""
    if options.root is None:
        return random_data(options.images)
    spec = {"name": "cifar10", "root": str(options.root), "limit": options.images, "augmentations": ["crop", "flip"]}
    data: Data = load(registry("datasets").parse(spec), 0)
    return data


def theirs(options: argparse.Namespace) -> Turn:
    data = real_data(options)
    student, teacher = network(options.student_model), network(options.teacher_model)
    # The schedule needs an end, which no benchmark reaches.
    return epochs_of_torchdistill(torchdistill_box(student, teacher, data, 1000, options.workers))


def ours(precision: str, options: argparse.Namespace) -> Turn:
    data, engine = real_data(options), Engine(EngineSettings.model_validate({"precision": precision}))
    task = distillation(network(options.student_model), network(options.teacher_model))
    return epochs_of_ours(task, training_batches(data, BATCH, 0, engine), data, engine)


def ours_kept(options: argparse.Namespace) -> Turn:
    """With the teacher's outputs on disk since the untimed first epoch, as a second student finds them."""
    data, engine = real_data(options), Engine(EngineSettings())
    task = distillation(network(options.student_model), network(options.teacher_model))
    engine.place(task)
    folder = tempfile.TemporaryDirectory()
    batches = BatchesWithOutputs(
        training_batches(data, BATCH, 0, engine, views=1),
        task.teacher_ensemble,
        engine,
        Path(folder.name),
        {},
        epochs=1,
    )
    turn = epochs_of_ours(task, batches, data, engine)

    def turn_in_folder(epochs: int) -> float:
        assert Path(folder.name).is_dir()  # it goes when the process ends, with what refers to it
        return turn(epochs)

    return turn_in_folder


def speed(options: argparse.Namespace) -> Comparison:
    """Images per second of each rival, an epoch a turn, each in a process of its own."""
    images = len(real_data(options).train)
    rivals: dict[str, Callable[[argparse.Namespace], Turn]] = {
        BASELINE: theirs,
        "nasdistill, fp32": functools.partial(ours, "32"),
        "nasdistill, defaults": functools.partial(ours, "auto"),
        "nasdistill, defaults, outputs kept": ours_kept,
    }
    with contextlib.ExitStack() as stack:
        turns = {name: stack.enter_context(apart(rival, options)) for name, rival in rivals.items()}
        title = f"KD, {options.teacher_model} to {options.student_model}, batch {BATCH}, epochs of {images} images"
        return compare(title, turns, work=images, baseline=BASELINE, options=options)


def limits(options: argparse.Namespace) -> Table:
    """What the processor could do at most: its matrix rate over the multiply-adds of a step."""
    work = multiply_adds_of_a_step(distillation(network(options.student_model), network(options.teacher_model)))
    table = Table("precision", "multiply-adds/s", "images/s at most", title_justify="left")
    table.title = f"The processor's limit: {work:,} multiply-adds an image"
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rate = matrix_rate(dtype)
        table.add_row(name, f"{rate:.3g}", f"{rate / work:.0f}")
    return table


def accuracy(options: argparse.Namespace) -> Table:
    """Test accuracy after equal epochs, by seed; the students of a seed start from equal weights and score in fp32."""
    spec, teacher = load_network(options.teacher)
    engines = {
        f"nasdistill, {name}": Engine(EngineSettings.model_validate({"precision": precision}))
        for name, precision in (("fp32", "32"), ("defaults", "auto"))
    }
    found: dict[str, dict[int, float]] = {name: {} for name in (BASELINE, *engines)}
    for seed in range(options.seeds):
        data = real_data(options)
        torch.manual_seed(seed)
        start = network(options.student_model)

        box = torchdistill_box(copy.deepcopy(start), teacher, data, options.epochs, options.workers)
        for epoch in range(options.epochs):
            epoch_of_torchdistill(box, epoch)
        students = {BASELINE: box.student_model}
        for name, engine in engines.items():
            task = distillation(copy.deepcopy(start), teacher)
            settings = TrainingSettings(epochs=options.epochs, batch_size=BATCH, evaluate_every=options.epochs)
            trained(task, training_batches(data, BATCH, seed, engine), data, settings, engine)
            students[name] = task.network

        for name, student in students.items():
            engine = engines.get(name, next(iter(engines.values())))
            test = evaluation_batches(data.test, data, engine)
            found[name][seed] = evaluate(student, test, engine, full_precision=True).accuracy
            print(f"seed {seed}, {name}: {found[name][seed]:.2f} %", file=sys.stderr)
    title = f"{spec.model.registered_name} to {options.student_model}, {options.epochs} epochs"
    return of_accuracies(title, found, BASELINE)


def main() -> None:
    parser = arguments("distillation beside torchdistill")
    parser.set_defaults(rounds=3, steps=1, warmup=1)
    parser.add_argument("--root", type=Path, help="folder of CIFAR-10; random images of its shape if left out")
    parser.add_argument("--images", type=int, default=2048, help="images, of which a tenth is held out (default 2048)")
    parser.add_argument("--workers", type=int, default=0, help="processes of torchdistill's loader (default 0)")
    parser.add_argument("--student-model", default="wrn-16-2", help="who learns (default wrn-16-2)")
    parser.add_argument("--teacher-model", default="wrn-40-2", help="who teaches (default wrn-40-2)")
    parser.add_argument("--accuracy", action="store_true", help="compare accuracy in place of speed")
    parser.add_argument("--teacher", type=Path, help="folder of a trained teacher, for --accuracy")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of --accuracy (default 6)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of --accuracy (default 3)")
    options = parser.parse_args()
    if options.accuracy and (options.teacher is None or options.root is None):
        parser.error("--accuracy needs --teacher and --root: random weights and images have none")
    console = Console()
    if options.accuracy:
        console.print(accuracy(options))
        return
    show([speed(options)], options.json)
    console.print(limits(options))


if __name__ == "__main__":
    main()
