"""No measurement of the machine ends any work: what cannot be read is a missing value, and told once."""

from __future__ import annotations

import io
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill import readings
from nasdistill.cli.main import main
from nasdistill.data import decoding
from nasdistill.depthwise import processor
from nasdistill.models import inspection
from nasdistill.readings import reading
from nasdistill.recipes import cost, provenance, runner
from nasdistill.recipes.cost import Meter
from nasdistill.recipes.loading import load_recipe
from nasdistill.training import engine
from tests.recipes.toy import RECIPE


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "_missed", set())


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_a_failed_reading_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    assert [reading("heat", raising(KeyError("sensor"))) for _ in range(3)] == [None] * 3
    assert [reading("heat", lambda: 20.5)] == [20.5]
    assert [record.message for record in caplog.records] == [
        "heat cannot be measured here and is left out: KeyError: 'sensor'"
    ]


@pytest.mark.parametrize("broken", ["_reset_peak", "_peak"])
def test_memory(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, broken, raising(PermissionError(13, "Permission denied", "/proc/self/clear_refs")))
    found = Meter(tmp_path / "attempts.json").read()
    assert found["peak_memory_bytes"] is None
    assert found["seconds"] >= 0


def test_a_stage_on_the_processor_of_a_machine_with_a_gpu_took_memory_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"is_available": True, "reset_peak_memory_stats": None, "max_memory_allocated": 0}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    meter = Meter(tmp_path / "attempts.json")
    assert meter.read()["peak_memory_bytes"] > 2**20
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5)
    assert meter.read()["peak_memory_bytes"] == 5


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"began": "x", "earlier": 1}', b"\xff", b"null"])
def test_the_time_of_earlier_attempts(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "attempts.json").write_bytes(content)
    assert 0 <= Meter(tmp_path / "attempts.json").read()["seconds"] < 60


@pytest.mark.parametrize("error", [OSError("no more processes"), subprocess.TimeoutExpired("git", 10)])
def test_the_git_commit(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", raising(error))
    assert provenance.git_commit.__wrapped__() is None


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", raising(metadata.PackageNotFoundError("torch")))
    assert provenance.versions.__wrapped__("nni")["nni"] == "unknown"


def test_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (PermissionError("no"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")):
        monkeypatch.setattr(Path, "read_text", raising(error))
        assert processor.processor.__wrapped__("model name") == ""


def test_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.platform, "libc_ver", raising(PermissionError("python cannot be read")))
    engine.keep_freed_memory()


def test_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "latency_ms", raising(RuntimeError("no clock")))
    found = inspection.described(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), (1, 2, 2), timed=True)
    assert found == {"parameters": 10, "multiply_adds": 8, "bytes": 40, "latency_ms": None}


def test_a_run_that_can_measure_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module, name in ((cost, "_reset_peak"), (cost, "_peak"), (subprocess, "run"), (metadata, "version")):
        monkeypatch.setattr(module, name, raising(PermissionError(13, "Permission denied")))
    for cached in (provenance.git_commit, provenance.versions):
        cached.cache_clear()
    (tmp_path / "toy.yaml").write_text(RECIPE)
    runner.run(load_recipe(str(tmp_path / "toy.yaml")), tmp_path / "out", "test")
    assert (tmp_path / "out" / "report.html").is_file()
    assert sum("peak memory cannot be measured here" in record.message for record in caplog.records) == 1
    for cached in (provenance.git_commit, provenance.versions):
        cached.cache_clear()


def test_images_are_decoded_without_shared_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(multiprocessing, "Lock", raising(FileNotFoundError(2, "No such file or directory")))
    decoding._have_company.cache_clear()
    assert list(decoding._spread(abs, [-1, -2, -3], 2)) == [1, 2, 3]
    assert "decoded by this process alone" in caplog.text
    decoding._have_company.cache_clear()


def test_a_terminal_that_knows_ascii_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert main(["show", "objectives", "attention"]) == 0
    sys.stdout.flush()
    assert written.getvalue().startswith(b"objective attention")
