"""How networks do alone and together, from their outputs on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nasdistill.models.ensemble import Average, average_logits
from nasdistill.training.metrics import Metrics, score

ENSEMBLE = "ensemble.json"


@dataclass(frozen=True)
class Answers:
    """A network's outputs.

    Attributes:
        logits: float32, [N, classes].
        weight: in the ensemble; None for a network that is no part of it.
    """

    name: str
    logits: torch.Tensor
    weight: float | None = None


def together(networks: Sequence[Answers], average: Average) -> torch.Tensor:
    """The output of the ensemble of those networks that have a weight: logits [N, classes], see `average_logits`."""
    members = [(each.logits, each.weight) for each in networks if each.weight is not None]
    return average_logits([logits for logits, _ in members], [weight for _, weight in members], average)


def agreement(networks: Sequence[Answers]) -> torch.Tensor:
    """To how many percent of the images two networks answer the same class: float64, [networks, networks]."""
    predicted = torch.stack([each.logits.argmax(1) for each in networks])
    return 100 * (predicted[:, None] == predicted).double().mean(dim=2)


def compared(networks: Sequence[Answers], truth: torch.Tensor, average: Average, whole: Metrics) -> dict[str, Any]:
    """The content of `ensemble.json`: each network alone, the first 2, 3, ... members together, and who agrees.

    Args:
        networks: members in their order, others anywhere between.
        truth: the images' classes, int64, [N].
        whole: what all members score together.
    """
    members = [each for each in networks if each.weight is not None]
    parts = [score(together(members[:count], average), truth) for count in range(2, len(members))]
    return {
        "networks": [
            {"name": each.name, "member": each.weight is not None, **_plain(score(each.logits, truth))}
            for each in networks
        ],
        "ensembles": [
            {"members": count, **_plain(found)}
            for count, found in enumerate([*parts, whole], 2)
            if count <= len(members)  # a single one is no ensemble
        ],
        "agreement": agreement(networks).tolist(),
    }


def _plain(metrics: Metrics) -> dict[str, Any]:
    return {name: getattr(metrics, name) for name in ("accuracy", "loss", "calibration_error", "bins")}
