"""Stages measure latency for half a second each; here a hundredth has to do."""

from __future__ import annotations

import functools

import pytest

from nasdistill.models import inspection


@pytest.fixture(autouse=True)
def brief_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "latency_ms", functools.partial(inspection.latency_ms, seconds=0.01))
