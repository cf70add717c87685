"""A successor of DARTS that is made of parts which are there."""

from __future__ import annotations

from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.darts import DartsSearch
from nasdistill.search.strategies.successors import with_defaults


@with_defaults(sampler="gumbel", edges={"name": "partial", "divisor": 2}, warm_up=0.25)
@STRATEGIES.register("frugal-darts")
class FrugalDarts(DartsSearch):
    """Half of the channels go through one operation an edge, which is drawn; at first only the weights learn."""

    source = "Dong and Yang 2019, GDAS (arXiv:1910.04465); Xu et al. 2020, PC-DARTS (arXiv:1907.05737)"
