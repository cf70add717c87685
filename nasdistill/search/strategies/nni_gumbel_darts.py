"""nni's GumbelDARTS: as DARTS, with noise that makes the mixture all but one alternative."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.search.one_shot import NniSupernet, OneShot
from nasdistill.search.samplers import Annealed
from nasdistill.search.strategies import STRATEGIES


@STRATEGIES.register("nni:gumbel-darts")
class NniGumbelDarts(Annealed, OneShot):
    """Mix all alternatives by a Gumbel softmax, whose temperature falls: from a mixture towards a draw of one."""

    source: ClassVar[str] = "Xie et al. 2019, SNAS (arXiv:1812.09926); Wu et al. 2019, FBNet (arXiv:1812.03443)"
    nni_name: ClassVar[str] = "GumbelDARTS"

    def begin_epoch(self, supernet: NniSupernet, epoch: int) -> None:
        from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax

        for module in supernet.modules():
            if isinstance(module, GumbelSoftmax):
                module.tau = self.temperature_at(epoch / self.epochs)
