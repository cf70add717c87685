"""Successors of DARTS: options of `darts` under the name and with the settings that they were published with."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import create_model

from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.darts import DartsSearch


def successor(name: str, source: str, description: str, **defaults: Any) -> type[DartsSearch]:
    """`darts` with other defaults, registered by that name."""
    fields: dict[str, Any] = {
        field: (Annotated[info.annotation, info], defaults.pop(field))
        for field, info in DartsSearch.model_fields.items()
        if field in defaults
    }
    assert not defaults, f"no options of darts: {', '.join(defaults)}"
    title = "".join(part.title() for part in name.split("-"))
    model = create_model(title, __base__=DartsSearch, __module__=__name__, __doc__=description, **fields)
    made = cast(type[DartsSearch], model)
    made.source = source
    STRATEGIES.register(name)(made)
    return made


PcDarts = successor(
    "pc-darts",
    "Xu et al. 2020, PC-DARTS (arXiv:1907.05737)",
    """A quarter of the channels goes through the operations, edges have learned shares, and weights warm up.

    The larger batch is what the memory saved allows.
    """,
    batch_size=256,
    lr=0.1,
    lr_end=0.0,
    alpha_lr=6e-4,
    edges={"name": "partial", "divisor": 4},
    edge_normalisation=True,
    warm_up=0.3,
)

Gdas = successor(
    "gdas",
    "Dong and Yang 2019, GDAS (arXiv:1910.04465)",
    """Each step draws one operation an edge, and computes no other; the temperature of the draw falls.

    The released code adds the other operations' weights as constants, and for NAS-Bench-201 decays weights by 5e-4 with
    Nesterov's momentum.
    """,
    epochs=250,
    sampler={"name": "gumbel", "hard": True, "temperature": 10.0, "temperature_end": 0.1},
)

Snas = successor(
    "snas",
    "Xie et al. 2019, SNAS (arXiv:1812.09926)",
    """Each step draws mixtures, which come close to one operation an edge as the temperature falls.

    As published weights and architecture learn from the same images; here each has its half, as in DARTS. The
    regulariser `expected-parameters` stands for the published constraint of resources.
    """,
    epochs=150,
    lr_end=0.0,
    sampler={"name": "gumbel", "hard": False, "temperature": 1.0, "temperature_end": 0.03},
)

DrNas = successor(
    "drnas",
    "Chen et al. 2021, DrNAS (arXiv:2006.10355)",
    """Each step draws mixtures from Dirichlet distributions, whose concentrations are learned.

    Weight decay of the alphas draws the concentrations to 1. These are the settings for NAS-Bench-201; in the space of
    DARTS the paper also drops operations on the way and computes a part of the channels.
    """,
    epochs=100,
    sampler="dirichlet",
)

BetaDarts = successor(
    "beta-darts",
    "Ye et al. 2022, beta-DARTS (arXiv:2203.01665)",
    """A regulariser that grows linearly keeps the weights of an edge's operations close together.

    The released code perturbs the weights while the network's weights learn, too: `sampler: perturbed`.
    """,
    regularisers=({"name": "beta-decay", "weight": 50.0},),
)

FairDarts = successor(
    "fair-darts",
    "Chu et al. 2020, Fair DARTS (arXiv:1911.12126)",
    """Operations have gates, so that none wins at another's cost, and a loss drives the gates to 0 or 1.

    The settings are those of the released code, which also uses betas of (0.9, 0.999) for the architecture and drops
    operations whose gate ends below 0.85; here each node keeps its strongest edges.
    """,
    batch_size=128,
    lr=0.005,
    alpha_lr=3e-3,
    sampler="sigmoid",
    regularisers=({"name": "zero-one", "weight": 10.0},),
)

Sdarts = successor(
    "sdarts",
    "Chen and Hsieh 2020, SmoothDARTS (arXiv:2002.05283)",
    """Weights learn under random noise on the architecture, which smooths the loss around it (SDARTS-RS).""",
    sampler={"name": "perturbed", "radius": 0.03, "radius_end": 0.3},
)
