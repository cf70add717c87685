"""The engine: where, how precisely, and with how many processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nasdistill.errors import SpecError
from nasdistill.registry import build
from nasdistill.training import engine as engine_module
from nasdistill.training.engine import EngineSettings, gpus_possible, resolve
from nasdistill.training.launch import is_first_process
from tests.together import torchrun
from tests.training import shared_out
from tests.training.parts import engine


def test_convolutions_are_channels_last_and_compute_in_bf16() -> None:
    there = engine("bf16")
    network = there.place(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    weight = network[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert weight.dtype == torch.float32
    with there.autocast():
        assert network[0](torch.randn(2, 3, 8, 8)).dtype == torch.bfloat16


def test_fabrics_wrapping_gives_losses_in_single_precision() -> None:
    there = engine("bf16")
    network = nn.Linear(4, 2)
    module, _ = there.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
    assert module(torch.randn(3, 4)).dtype == torch.float32
    assert there.precision == "bf16"


def test_contiguous_and_fp32_where_asked() -> None:
    there = engine("32", channels_last=False)
    network = there.place(nn.Conv2d(3, 8, 3))
    assert network.weight.is_contiguous()
    with there.autocast():
        assert network(torch.randn(2, 3, 8, 8)).dtype == torch.float32


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "32")])
def test_auto_takes_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str
) -> None:
    monkeypatch.setattr(engine_module, "cpu_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve(EngineSettings()) == ("cpu", precision)
    assert resolve(EngineSettings(precision="32")) == ("cpu", "32")


@pytest.mark.parametrize(
    ("environment", "first"),
    [({}, True), ({"RANK": "0"}, True), ({"RANK": "2", "LOCAL_RANK": "0"}, False), ({"LOCAL_RANK": "1"}, False)],
)
def test_the_first_process_is_known_from_the_launcher(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], first: bool
) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_an_accelerator_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SpecError, match=r"offers no cuda to torch \(it offers cpu\)"):
        resolve(EngineSettings(accelerator="cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(engine_module, "gpus_possible", lambda: True)
    with pytest.raises(SpecError, match="2 devices were asked for, the machine has 1 cuda"):
        resolve(EngineSettings(accelerator="cuda", devices=2))


@pytest.mark.parametrize(("capability", "precision"), [(7, "32"), (8, "bf16")])
def test_auto_takes_bf16_where_a_gpu_computes_in_it_not_where_it_emulates_it(
    capability: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs before Ampere make tensors of bfloat16, too."""
    monkeypatch.setattr(engine_module, "gpus_possible", lambda: True)
    for name, value in {
        "device_count": 1,
        "is_available": True,
        "current_device": 0,
        "get_device_properties": SimpleNamespace(major=capability),
        "_check_bf16_tensor_supported": True,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    assert resolve(EngineSettings()) == ("cuda", precision)


def test_torch_is_asked_for_gpus_wherever_it_may_find_some(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus_possible() or torch.cuda.device_count() == 0

    def loads(*there: str) -> Callable[[str], None]:
        def load(library: str) -> None:
            if library not in there:
                raise OSError(library)

        return load

    def on(system: str, devices: tuple[str, ...] = (), libraries: tuple[str, ...] = ()) -> bool:
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(engine_module.os.path, "exists", devices.__contains__)
        monkeypatch.setattr(engine_module.ctypes, "CDLL", loads(*libraries))
        return gpus_possible()

    assert not on("linux")
    assert on("linux", libraries=("libcuda.so.1",))
    assert on("linux", libraries=("libnvidia-ml.so.1",))
    assert on("linux", devices=("/dev/kfd",))
    assert on("linux", devices=("/dev/dxg",))
    assert on("darwin")
    assert on("win32")


def test_a_wrong_setting_names_what_is_allowed() -> None:
    with pytest.raises(SpecError, match="'cpu'"):
        build(EngineSettings, {"accelerator": "gpu"})


def test_precision_is_a_number_in_yaml() -> None:
    assert build(EngineSettings, {"precision": 32}).precision == "32"


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Averaged gradients of two halves are the gradient of the whole batch: torchrun gives what one process gives."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    shared_out.main(tmp_path / "one")
    torchrun("tests.training.shared_out", tmp_path / "two")
    one, two = load_file(tmp_path / "one" / "weights"), load_file(tmp_path / "two" / "weights")
    torch.testing.assert_close(one, two)
    metrics = [(tmp_path / name / "metrics").read_text() for name in ("one", "two")]
    assert metrics[0] == metrics[1]
    assert len(list((tmp_path / "two" / "checkpoints").iterdir())) == 2
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
