"""What a test needs beside the package; a test whose need is not met is skipped with its reason."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from html import escape

import pytest
from hypothesis import HealthCheck, settings

from tests.children import InAChild, forked

# Before anything loads torch, and for all processes that tests start: one thread, whatever else computes beside.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What else computes beside decides how long an example takes.
ON_A_BUSY_MACHINE = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile("busy", deadline=None, suppress_health_check=ON_A_BUSY_MACHINE)
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes or hours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {
        "gpu": None if _has_gpu() else "needs an NVIDIA GPU",
        "shared": None if os.environ.get("NASDISTILL_DATA") else "needs real data; name their root in NASDISTILL_DATA",
        "slow": None if config.getoption("--slow") else "takes minutes; run with --slow",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def brief_latency() -> Iterator[None]:
    """Stages measure latency for half a second each; here a hundredth has to do."""
    from nasdistill.models import inspection

    with pytest.MonkeyPatch.context() as patch:
        for name in ("latency_ms", "runtime_latency_ms"):
            patch.setattr(inspection, name, functools.partial(getattr(inspection, name), seconds=0.01))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_memory_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests say yes to is not remembered for whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def brief_pictures() -> Iterator[None]:
    """Every run ends with a page; its pictures, a fifth of a second each, are drawn in the tests of reports alone."""
    from nasdistill.report import plots, trial_plots

    @functools.wraps(plots.picture)
    def picture(title: str, *_: object, **__: object) -> str:
        return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}"></svg>'

    with pytest.MonkeyPatch.context() as patch:
        for module in (plots, trial_plots):
            patch.setattr(module, "picture", picture)
        yield


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command that a test runs in this process sends the log elsewhere, which hides it from the tests after it."""
    log = logging.getLogger("nasdistill")
    before = (log.handlers, log.level, log.propagate)
    yield
    log.handlers, log.level, log.propagate = before


@pytest.fixture
def in_a_child() -> Iterator[InAChild]:
    """`forked`, for tests whose parent and child compute, both with one thread.

    A child has none of the threads that its parent's libraries keep, and would wait for them for ever; with one thread
    there is nothing to wait for. The parent has no more, so that both get the same bits.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield forked
    torch.set_num_threads(before)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
