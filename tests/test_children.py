"""A forked child of a test computes what its parent does, and never hangs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.children import forked


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def computed() -> torch.Tensor:
    """By each library that has threads: OpenMP's own loops, oneDNN in both precisions, and MKL."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(512, 512, generator=generator)
    images = matrix.view(8, 32, 32, 32).to(memory_format=torch.channels_last)
    kernel = torch.randn(32, 32, 3, 3, generator=generator)
    kinds = torch.bfloat16, torch.float32
    maps = [functional.conv2d(images.to(kind), kernel.to(kind)).float().sum() for kind in kinds]
    return torch.stack([matrix.exp().sum(), (matrix @ matrix).sum(), *maps])


def test_a_child_computes_after_threads_of_its_parent_did(
    two_threads: None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A fork copies one thread only, and a child that counts on the others waits for ever."""
    computed()
    in_a_child = request.getfixturevalue("in_a_child")
    assert in_a_child(lambda: (tmp_path / "child").write_bytes(computed().numpy().tobytes())) == 0
    assert (tmp_path / "child").read_bytes() == computed().numpy().tobytes()


def test_a_child_that_hangs_fails_its_test_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match="hung for 1 seconds"):
        forked(lambda: time.sleep(30), seconds=1)
    assert time.monotonic() - start < 10
    assert "test_children.py" in capfd.readouterr().err


def test_a_child_says_why_it_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert os.waitstatus_to_exitcode(forked(lambda: {}["missing"])) == 1
    assert "KeyError: 'missing'" in capfd.readouterr().err
