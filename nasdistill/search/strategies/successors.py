"""Successors of DARTS: options of `darts` under the name and with the settings that they were published with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from nasdistill.search.strategies import STRATEGIES, Strategy
from nasdistill.search.strategies.darts import DartsSearch

S = TypeVar("S", bound=Strategy)


def with_defaults(**defaults: Any) -> Callable[[type[S]], type[S]]:
    """A class decorator: other defaults of the options that `darts` has."""

    def change(successor: type[S]) -> type[S]:
        for name, value in defaults.items():
            successor.model_fields[name].default = value
        successor.model_rebuild(force=True)
        return successor

    return change


@with_defaults(
    batch_size=256,
    lr=0.1,
    lr_end=0.0,
    alpha_lr=6e-4,
    edges={"name": "partial", "divisor": 4},
    edge_normalisation=True,
    warm_up=0.3,
)
@STRATEGIES.register("pc-darts")
class PcDarts(DartsSearch):
    """A quarter of the channels goes through the operations, edges have learned shares, and weights warm up.

    The larger batch is what the memory saved allows.
    """

    source: ClassVar[str] = "Xu et al. 2020, PC-DARTS (arXiv:1907.05737)"


@with_defaults(
    epochs=250,
    sampler={"name": "gumbel", "hard": True, "temperature": 10.0, "temperature_end": 0.1},
)
@STRATEGIES.register("gdas")
class Gdas(DartsSearch):
    """Each step draws one operation an edge, and computes no other; the temperature of the draw falls.

    The released code adds the other operations' weights as constants, and for NAS-Bench-201 decays weights by 5e-4 with
    Nesterov's momentum.
    """

    source: ClassVar[str] = "Dong and Yang 2019, GDAS (arXiv:1910.04465)"


@with_defaults(
    epochs=150,
    lr_end=0.0,
    sampler={"name": "gumbel", "hard": False, "temperature": 1.0, "temperature_end": 0.03},
)
@STRATEGIES.register("snas")
class Snas(DartsSearch):
    """Each step draws mixtures, which come close to one operation an edge as the temperature falls.

    As published weights and architecture learn from the same images; here each has its half, as in DARTS. The
    regulariser `expected-parameters` stands for the published constraint of resources.
    """

    source: ClassVar[str] = "Xie et al. 2019, SNAS (arXiv:1812.09926)"


@with_defaults(
    epochs=100,
    sampler="dirichlet",
)
@STRATEGIES.register("drnas")
class DrNas(DartsSearch):
    """Each step draws mixtures from Dirichlet distributions, whose concentrations are learned.

    Weight decay of the alphas draws the concentrations to 1. These are the settings for NAS-Bench-201; in the space of
    DARTS the paper also drops operations on the way and computes a part of the channels.
    """

    source: ClassVar[str] = "Chen et al. 2021, DrNAS (arXiv:2006.10355)"


@with_defaults(
    regularisers=({"name": "beta-decay", "weight": 50.0},),
)
@STRATEGIES.register("beta-darts")
class BetaDarts(DartsSearch):
    """A regulariser that grows linearly keeps the weights of an edge's operations close together.

    The released code perturbs the weights while the network's weights learn, too: `sampler: perturbed`.
    """

    source: ClassVar[str] = "Ye et al. 2022, beta-DARTS (arXiv:2203.01665)"


@with_defaults(
    batch_size=128,
    lr=0.005,
    alpha_lr=3e-3,
    sampler="sigmoid",
    regularisers=({"name": "zero-one", "weight": 10.0},),
)
@STRATEGIES.register("fair-darts")
class FairDarts(DartsSearch):
    """Operations have gates, so that none wins at another's cost, and a loss drives the gates to 0 or 1.

    The settings are those of the released code, which also uses betas of (0.9, 0.999) for the architecture and drops
    operations whose gate ends below 0.85; here each node keeps its strongest edges.
    """

    source: ClassVar[str] = "Chu et al. 2020, Fair DARTS (arXiv:1911.12126)"


@with_defaults(
    sampler={"name": "perturbed", "radius": 0.03, "radius_end": 0.3},
)
@STRATEGIES.register("sdarts")
class Sdarts(DartsSearch):
    """Weights learn under random noise on the architecture, which smooths the loss around it (SDARTS-RS)."""

    source: ClassVar[str] = "Chen and Hsieh 2020, SmoothDARTS (arXiv:2002.05283)"
