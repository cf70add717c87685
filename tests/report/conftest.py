from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill.report.records import RunRecord
from tests.report.fakes import fake_run


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    """A run with seed 0, and its folder; shared, so read only."""
    out = tmp_path_factory.mktemp("one")
    return fake_run(out), out


@pytest.fixture(scope="session")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    """A run with seeds 0, 1 and 2, and its folder; shared, so read only."""
    out = tmp_path_factory.mktemp("three")
    return fake_run(out, seeds=(0, 1, 2), name="three seeds"), out
