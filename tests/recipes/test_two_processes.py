"""Two processes give what one gives, to rounding; a stop, a death and another number of processes in between."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nasdistill.cli.main import main
from nasdistill.search import gradient
from nasdistill.search.supernet import Supernet
from nasdistill.storage import read_json
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.processes import refuse_difference
from tests.children import InAChild, forked
from tests.together import together

STAGES = {
    "search": "{uses: search, with: {space: {name: darts-tiny, search_channels: 4, search_cells: 3}, strategy: "
    "{name: darts, batch_size: 32, epochs: 2, lr: 0.001, lr_end: 0.0001}}}",
    "train": "{uses: train, with: {model: wrn-10-1, batch_size: 32, epochs: 2, optimizer: {name: sgd, lr: 0.003}}}",
    "distil": "{uses: distill, with: {student: wrn-10-1, teacher: train, batch_size: 32, epochs: 2, optimizer: "
    "{name: sgd, lr: 0.001}, objectives: [kd, {name: attention, beta: 10}]}}",
    "hint": "{uses: distill, with: {student: wrn-10-1, teacher: train, batch_size: 32, epochs: 1, optimizer: "
    "{name: sgd, lr: 0.001}, objectives: [{name: cross-entropy, weight: 0}, {name: attention, beta: 10}]}}",
    "zero-shot": "{uses: zero-shot, with: {student: wrn-10-1, teacher: train, pseudo_batches: 4, batch_size: 32, "
    "student_steps: 2, watch_every: 2, evaluate_every: 2, optimizer: {name: sgd, lr: 0.001}, generator_optimizer: "
    "{name: sgd, lr: 0.001}, generator: {name: convolutional, latents: 8, channels: 8}}}",
    "ban": "{uses: born-again, with: {model: wrn-10-1, generations: 1, batch_size: 32, epochs: 1, optimizer: "
    "{name: sgd, lr: 0.003}}}",
}
NNI = {
    name: "{uses: search, with: {space: {name: nni:nasbench201, search_channels: 2, search_cells: 1}, strategy: "
    f"{{name: nni:{name}, batch_size: 32, epochs: 2, lr: 0.001, lr_end: 0.0001}}}}}}"
    for name in ("darts", "gumbel-darts", "proxyless", "random-one-shot")
}
if importlib.util.find_spec("nni"):
    STAGES |= NNI
ROUNDING = 2e-4
"""Of weights below 1. Single rounding errors are 1e-7; now and then one turns a ReLU at zero on or off."""
MADE = (*STAGES, "ban-0", "ban-1")


def recipe(folder: Path, *stages: str, engine: str = "") -> Path:
    lines = [f"  - {{name: {name}, {STAGES[name][1:]}" for name in stages]
    text = f"""\
name: pairs
seed: 0
data: {{name: digits, limit: 142, augmentations: [{{name: crop, padding: 1}}, flip, {{name: cutout, size: 2}}]}}
engine: {{accelerator: cpu, precision: "32"{engine}}}
checkpoint_seconds: 0.001
stages:
"""
    path = folder / "pairs.yaml"
    path.write_text(text + "\n".join(lines))
    return path


def run(path: Path, out: Path) -> int:
    return main(["run", str(path), "--out", str(out), "--quiet"])


def largest_differences(one: Path, other: Path) -> tuple[float, float]:
    """Of weights, and relative to 1 or more of the values of all curves but those that count images."""
    weights = curves = 0.0
    if (one / "weights.safetensors").is_file():
        ours, theirs = (load_file(folder / "weights.safetensors") for folder in (one, other))
        weights = max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)
    if (one / "history.json").is_file():
        both = [read_json(folder / "history.json")["curves"] for folder in (one, other)]
        assert both[0].keys() == both[1].keys()
        counts = [name for name in both[0] if "accuracy" in name or name == "agreement/train"]
        assert all(abs(a[1] - b[1]) < 5 for name in counts for a, b in zip(both[0][name], both[1][name], strict=True))
        norms = [name for name in both[0] if name.startswith("gradient norm")]  # of what rounding moves most
        for name in norms:
            assert [y for _, y in both[0][name]] == pytest.approx([y for _, y in both[1][name]], rel=1e-2)
        others = both[0].keys() - {*counts, *norms}
        points = [zip(both[0][name], both[1][name], strict=True) for name in others]
        curves = max(abs(a[1] - b[1]) / max(1, abs(a[1])) for pairs in points for a, b in pairs)
    return weights, curves


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `one` and `two` of all stages, in one process and in two."""
    folder = tmp_path_factory.mktemp("runs")
    path = recipe(folder, *STAGES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as `in_a_child` does
    assert run(path, folder / "one") == 0
    assert together(lambda _rank: run(path, folder / "two")) == [0, 0]
    torch.set_num_threads(threads)
    return folder


@pytest.mark.parametrize("stage", MADE)
def test_losses_and_weights_agree_to_rounding(runs: Path, stage: str) -> None:
    one, two = (runs / name / "stages" / stage for name in ("one", "two"))
    weights, curves = largest_differences(one, two)
    assert weights < ROUNDING
    assert curves < ROUNDING
    assert read_json(one / "spec.json") == read_json(two / "spec.json")


def test_how_many_processes_there_were_decides_no_key(runs: Path) -> None:
    """What two made is found by one."""
    keys = [
        {name: read_json(runs / run / "stages" / name / "artifact.json")["key"] for name in ("search", "train")}
        for run in ("one", "two")
    ]
    assert keys[0] == keys[1]


def test_statistics_of_shares_give_something_else(runs: Path, in_a_child: InAChild, tmp_path: Path) -> None:
    path = recipe(tmp_path, "train", engine=", sync_batch_norm: false")
    assert together(lambda _rank: run(path, tmp_path / "out")) == [0, 0]
    weights, _curves = largest_differences(runs / "one" / "stages" / "train", tmp_path / "out" / "stages" / "train")
    assert weights > 10 * ROUNDING


def test_two_machines_with_a_process_each_are_as_one_with_two(runs: Path, in_a_child: InAChild, tmp_path: Path) -> None:
    path = recipe(tmp_path, "train")
    assert together(lambda _rank: run(path, tmp_path / "out"), nodes=2) == [0, 0]
    differences = largest_differences(runs / "two" / "stages" / "train", tmp_path / "out" / "stages" / "train")
    assert differences == (0, 0)


@pytest.mark.parametrize("first", [1, 2])
def test_a_run_goes_on_with_another_number_of_processes(
    runs: Path, in_a_child: InAChild, tmp_path: Path, first: int
) -> None:
    """Stopped after the second step of the second of two epochs, by a signal to the last process alone."""
    path, out = recipe(tmp_path, "train"), tmp_path / "out"

    def stopped(rank: int) -> int:
        step = Checkpoints.step

        def signalled(self: Checkpoints, number: int, capture: Any) -> None:
            if number == 7 and rank == first - 1:  # epochs of 4 steps and an evaluation
                os.kill(os.getpid(), signal.SIGTERM)
            step(self, number, capture)

        Checkpoints.step = signalled  # type: ignore[method-assign]
        return run(path, out)

    def whole(_rank: int) -> int:
        return run(path, out)

    def begun(processes: int, act: Any) -> list[int]:
        return together(act) if processes == 2 else [os.waitstatus_to_exitcode(forked(lambda: os._exit(act(0))))]

    assert begun(first, stopped) == [128 + signal.SIGTERM] * first
    (work,) = (out / "work").glob("train-*")
    assert max(path.name for path in (work / "checkpoints").glob("*-*")).startswith("000000000007-")
    assert begun(3 - first, whole) == [0] * (3 - first)
    weights, curves = largest_differences(runs / "one" / "stages" / "train", out / "stages" / "train")
    assert weights < ROUNDING
    assert curves < ROUNDING


def test_an_architecture_that_differs_is_named_with_its_epoch(
    in_a_child: InAChild, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, "search")

    def strayed(rank: int) -> int:
        compared = []

        def then_stray(tensors: Sequence[torch.Tensor], what: str) -> None:
            compared.append(what)  # once an epoch
            if len(compared) == 2 and rank == 1:
                supernet.normal.data[0, 0] += 0.25
            refuse_difference(tensors, what)

        made = Supernet.__init__

        def remembered(self: Any, *arguments: Any, **options: Any) -> None:
            nonlocal supernet
            made(self, *arguments, **options)
            supernet = self

        supernet: Any = None
        Supernet.__init__ = remembered  # type: ignore[method-assign]
        gradient.refuse_difference = then_stray
        return run(path, tmp_path / "out")

    assert together(strayed) == [2, 2]
    told = capfd.readouterr().err
    assert "the architecture after epoch 2 differs between processes 0 and 1 by 0.25" in told


def test_the_death_of_one_ends_all_and_a_stop_of_one_stops_all_and_each_is_said_once(tmp_path: Path) -> None:
    """Real processes of `--devices 2`, the second of which gets the signal."""
    out = tmp_path / "out"
    options = ["--model", "mlp-8", "--epochs", "100000", "--accelerator", "cpu", "--precision", "32", "--out", str(out)]
    command = [sys.executable, "-m", "nasdistill", "train", *options, "--devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for number, status, said in (
        (signal.SIGKILL, 1, "process 1 of 2 ended by SIGKILL; what is done is saved, and the same command goes on"),
        (signal.SIGTERM, 128 + signal.SIGTERM, "stopped in stage 'train', seed 0; what is done is saved"),
    ):
        started = time.time()
        run = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        try:
            second = _beside(run.pid, lambda started=started: _written_since(started, out))
            os.kill(second, number)
            told = run.communicate(timeout=60)[1]
        finally:
            run.kill()
        assert run.returncode == status, told
        assert told.count("nasdistill: ") == 1, told
        assert said in told
        assert told.count("train: train (seed 0)") == 1
        assert not Path(f"/proc/{second}").exists()


def _written_since(started: float, out: Path) -> bool:
    """Whether a training has logged since then."""
    return any(path.stat().st_mtime > started for path in out.glob("tensorboard/*/*"))


def _beside(first: int, begun: Callable[[], bool]) -> int:
    """The process that another one started, once both train."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        if children and begun():
            return int(children[0])
        time.sleep(0.1)
    raise AssertionError("the training did not begin")
