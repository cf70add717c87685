"""Where the trials of an experiment run: on this machine, or on what a file in nni's own terms names."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasdistill.errors import unknown
from nasdistill.recipes.source import RecipeError, read_source

MODULE = "nasdistill.tuning.trial"
PLATFORMS = ("local", "remote", "openpai", "aml", "dlc", "kubeflow", "frameworkcontroller", "hybrid")
"""nni's training services."""
KEYS = ("trainingService", "sharedStorage", "nniManagerIp", "trialGpuNumber", "trialCommand", "trialFolder")


@dataclass(frozen=True)
class Portal:
    """Where nni's web page is served: to this machine alone unless the user says otherwise."""

    host: str = "127.0.0.1"
    port: int | None = None


@dataclass(frozen=True)
class Service:
    """Where and how trials run.

    Attributes:
        config: parts of nni's experiment config. It may hold passwords, so that it goes to nni and nowhere else.
        platform: nni's name of the training service.
        folder: where trials keep what they make on machines that do not see the experiment's folder.
    """

    config: dict[str, Any] = field(default_factory=lambda: {"trainingService": {"platform": "local"}})
    platform: str = "local"
    command: str = f"exec {shlex.quote(sys.executable)} -m {MODULE}"
    folder: str | None = None


def read_service(path: Path) -> Service:
    """Read a file that describes a training service.

    It holds what nni calls `trainingService`, and beside it, where needed, `sharedStorage`, `nniManagerIp` and
    `trialGpuNumber`, all in nni's own terms; `trialCommand` is what starts a trial there (`python3 -m
    nasdistill.tuning.trial` if left out), `trialFolder` where trials keep what they make.

    Raises:
        RecipeError: names file, line and key.
    """
    source = read_source(path)
    data = source.data
    for key in data if isinstance(data, dict) else ():
        if key not in KEYS:
            raise source.error((key,), unknown("key", key, KEYS))
    if not isinstance(data, dict) or not isinstance(data.get("trainingService"), dict):
        raise RecipeError(f"{path}: a training service is a mapping with the key 'trainingService', itself a mapping")
    platform = data["trainingService"].get("platform")
    if not isinstance(platform, str):
        raise source.error(("trainingService",), "needs nni's 'platform', e.g. local, remote or frameworkcontroller")
    if platform not in PLATFORMS:
        raise source.error(("trainingService", "platform"), unknown("platform", platform, PLATFORMS))
    default = Service.command if platform == "local" else f"python3 -m {MODULE}"
    return Service(
        config={key: value for key, value in data.items() if key not in ("trialCommand", "trialFolder")},
        platform=platform,
        command=data.get("trialCommand", default),
        folder=data.get("trialFolder"),
    )
