from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasdistill.report import plots, trial_plots
from nasdistill.report.records import RunRecord
from tests.report.fakes import fake_run


@pytest.fixture(scope="package", autouse=True)
def whole_pictures() -> Iterator[None]:
    """Drawn as users see them."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (plots, trial_plots):
            patch.setattr(module, "picture", inspect.unwrap(plots.picture))
        yield


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
