"""nni's DARTS: all alternatives mixed by learned weights."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.search.one_shot import OneShot
from nasdistill.search.strategies import STRATEGIES


@STRATEGIES.register("nni:darts")
class NniDarts(OneShot):
    """Mix all alternatives by a softmax and learn it by gradient descent, to first order.

    Each step computes every alternative, and sizes of layers by masked weights.
    """

    source: ClassVar[str] = "Liu et al. 2019, DARTS (arXiv:1806.09055), as nni.nas.strategy.DARTS has it"
    nni_name: ClassVar[str] = "DARTS"
