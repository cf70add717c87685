"""Networks scored by proxies before they are trained, and how they stand against each other."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from nasdistill.component import Options, listed
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data.base import Data
    from nasdistill.training.batches import Batch
    from nasdistill.training.engine import Engine


@dataclass(frozen=True)
class ProxyScore:
    """What a proxy says of a network.

    Attributes:
        value: None where it is not finite.
        seconds: that it took.
    """

    value: float | None
    seconds: float


class ProxyOptions(Options):
    """How networks are scored before they are trained."""

    proxy: Annotated[tuple[Annotated[Any, ComponentOf("proxies")], ...], BeforeValidator(listed)] = Field(
        ("synflow", "naswot"),
        validate_default=True,
        min_length=1,
        description="what scores the networks; of several, each has an equal say in which is best",
    )
    images: int = Field(64, gt=1, description="training images in the batch that they are scored on, drawn by the seed")

    @field_validator("proxy")
    @classmethod
    def _each_once(cls, proxies: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [proxy.registered_name for proxy in proxies]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise SpecError(f"the proxy {name!r} is listed twice", (number,))
        return proxies

    def batch(self, data: Data, seed: int, engine: Engine) -> Batch:
        """The images, not augmented; all training images where there are fewer.

        Raises:
            UserError: the data set holds texts.
        """
        import torch

        from nasdistill.data.loaders import evaluation_batches
        from nasdistill.data.seeds import generator_for

        order = torch.randperm(len(data.train), generator=generator_for(seed, "images for proxies"))
        chosen = data.train.subset(order[: self.images])
        (batch,) = evaluation_batches(chosen, data, engine, len(chosen)).epoch(0)
        return batch

    def scores(self, network: nn.Module, batch: Batch) -> dict[str, ProxyScore]:
        """By proxy its score of a network on the batch's device.

        Raises:
            UserError: as `Proxy.score`.
        """
        found = {}
        for proxy in self.proxy:
            start = time.perf_counter()
            value = proxy.score(network, batch.images, batch.labels)
            found[proxy.registered_name] = ProxyScore(value, time.perf_counter() - start)
        return found


def standings(scores: Sequence[Mapping[str, float | None]]) -> list[float | None]:
    """Percent of the other networks that each one is scored above, of equals half; the mean over all proxies.

    Raw scores of different proxies cannot be averaged, and one of them would decide alone.

    Args:
        scores: of each network by proxy.

    Returns:
        None for networks that some proxy has no score for, which are compared with none.
    """
    from scipy.stats import rankdata

    able = [number for number, of_network in enumerate(scores) if None not in of_network.values()]
    found: list[float | None] = [None] * len(scores)
    if able:
        table = [list(scores[number].values()) for number in able]
        ranks = rankdata(table, axis=0).mean(axis=1)
        for number, rank in zip(able, ranks, strict=True):
            found[number] = 100 * (float(rank) - 1) / (len(able) - 1) if len(able) > 1 else 100.0
    return found


def highest(scores: Sequence[Mapping[str, float | None]], parameters: Sequence[int]) -> list[int | None]:
    """After the first network, the first two, and so on: the number of the one with the highest of their `standings`.

    Of equals it is the smallest one, and then the earliest; None as long as none has a standing.

    Args:
        parameters: of each network.
    """
    import numpy as np

    table = np.array([[*of_network.values()] for of_network in scores], dtype=float)
    table[np.isnan(table).any(axis=1)] = np.nan
    # Over all proxies, how many of the others are below, less how many are above.
    ahead = np.where(np.isnan(table[:, 0]), -np.inf, 0)
    found: list[int | None] = []
    for number, row in enumerate(table):
        signs = np.nan_to_num(np.sign(row - table[:number])).sum(axis=1)
        ahead[:number] -= signs
        ahead[number] += signs.sum()
        so_far = ahead[: number + 1]
        first = np.flatnonzero(so_far == so_far.max()).tolist()
        found.append(min(first, key=lambda each: parameters[each]) if np.isfinite(so_far.max()) else None)
    return found
