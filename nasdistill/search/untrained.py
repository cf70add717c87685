"""Networks scored by proxies before they are trained, and how they stand against each other."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from nasdistill.component import Options, listed
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
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
        """The images, not augmented; all training images where there are fewer."""
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
    *_, leads = (), *_leads(scores)
    able = [lead for lead in leads if lead > -math.inf]
    most = (len(able) - 1) * len(scores[0]) if len(able) > 1 else 0
    return [None if lead == -math.inf else 50 * (1 + float(lead) / most) if most else 100.0 for lead in leads]


def highest(scores: Sequence[Mapping[str, float | None]], parameters: Sequence[int]) -> list[int | None]:
    """After the first network, the first two, and so on: the number of the one with the highest of their `standings`.

    Of equals it is the smallest one, and then the earliest; None as long as none has a standing.

    Args:
        parameters: of each network.
    """
    found: list[int | None] = []
    for leads in _leads(scores):
        first = (leads == leads.max()).nonzero()[0].tolist()
        found.append(min(first, key=lambda each: parameters[each]) if leads.max() > -math.inf else None)
    return found


def _leads(scores: Sequence[Mapping[str, float | None]]) -> Iterator[npt.NDArray[np.float64]]:
    """After the first network, the first two, and so on: over all proxies, how many others each is above, less how
    many it is below; minus infinity where some proxy has no score for it."""
    import numpy as np

    table = np.array([[*of_network.values()] for of_network in scores], dtype=float)
    unable = np.isnan(table).any(axis=-1)
    table[unable] = np.nan
    ahead = np.where(unable, -np.inf, 0)
    for number, row in enumerate(table):
        signs = np.nan_to_num(np.sign(row - table[:number])).sum(axis=1)
        ahead[:number] -= signs
        ahead[number] += signs.sum()
        yield ahead[: number + 1]
