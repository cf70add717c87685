"""The host never waits for the device within a pseudo-batch: it reads numbers only where curves are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasdistill.data.base import Normalisation
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.zero_shot.transfer import transfer
from tests.training.parts import engine, surroundings
from tests.zero_shot.parts import GENERATOR, SEED, Loop, loop, network

ITERATIONS = 4
READERS = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")
"""What hands a tensor's values to Python."""
LATER = {
    "normalisation": Normalisation(mean=(0.4,), std=(0.3,)),
    "generator": {**GENERATOR, "name": "conditional"},
    "bank": 20,
    "augmentations": ["crop", "flip"],
    "adapt": "fomaml",
    "latent_speed": 1,
}
WAITING_OPERATORS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2"}
"""Operators of ATen whose caller needs values to go on: as a number or as the size of what is returned."""


class Waits(TorchDispatchMode):
    """Tells of every operator that waits, whoever calls it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:2])
        )
        if name in WAITING_OPERATORS or by_mask:
            self._tell(name)
        return func(*args, **(kwargs or {}))


def made(teachers: int, **options: Any) -> Loop:
    return loop(
        network(1),
        *(network(2 + number, channels=6) for number in range(teachers)),
        losses=[
            *("adversarial", "total-variation", "one-hot", "activation", "information-entropy"),
            *({"name": "batch-norm", "momentum": 0.9}, {"name": "contrastive", "memory": 20}),
        ],
        pseudo_batches=ITERATIONS,
        watch_every=ITERATIONS,
        pictures=0,
        **options,
    )


def each_iteration_starts_with(action: Callable[[int], None], of: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = of.generation.sample

    def drawn(*place: int, **share: int) -> tuple[torch.Tensor, torch.Tensor]:
        action(place[1])
        return draw(*place, **share)

    monkeypatch.setattr(of.generation, "sample", drawn)


@pytest.mark.parametrize(("teachers", "options"), [(1, {}), (2, {}), (1, LATER)])
def test_numbers_are_read_only_where_curves_are_told(
    teachers: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = made(teachers, **options)
    reads: list[tuple[int, str]] = []
    at = [-1]
    each_iteration_starts_with(lambda number: at.__setitem__(0, number), trial, monkeypatch)
    for reader in READERS:
        original = getattr(torch.Tensor, reader)

        def spied(
            tensor: torch.Tensor, *given: Any, original: Any = original, reader: str = reader, **named: Any
        ) -> Any:
            reads.append((at[0], reader))
            return original(tensor, *given, **named)

        monkeypatch.setattr(torch.Tensor, reader, spied)
    checkpoints, records = surroundings(tmp_path)
    with Waits(lambda name: reads.append((at[0], name))):
        transfer(trial.task, trial.generation, trial.settings, engine(), SEED, None, checkpoints, records)
    monkeypatch.undo()
    assert [read for read in reads if 0 <= read[0] < ITERATIONS - 1] == []
    assert (ITERATIONS - 1, "tolist") in reads, "the last one is told of"


def test_the_spy_sees_waits_that_no_method_of_a_tensor_shows() -> None:
    told: list[str] = []
    with Waits(told.append):
        values = torch.arange(3)
        values[values > 1]
        torch.where(values > 1)
        torch.masked_select(values, values > 1)
        values + values.max()
    assert told == ["index", "nonzero", "masked_select"]


@pytest.mark.gpu
def test_torch_sees_no_wait_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second iteration, when all state exists, to the last one, which is told of."""
    trial = made(teachers=2)
    there = Engine(EngineSettings(accelerator="cuda"))
    modes = {1: "error", ITERATIONS - 1: "default"}
    each_iteration_starts_with(
        lambda number: torch.cuda.set_sync_debug_mode(modes[number]) if number in modes else None, trial, monkeypatch
    )
    checkpoints, records = surroundings(tmp_path)
    try:
        course = transfer(trial.task, trial.generation, trial.settings, there, SEED, None, checkpoints, records)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert course.done == ITERATIONS
