"""nni's GumbelDARTS: as DARTS, with noise that makes the mixture all but one alternative."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.errors import SpecError
from nasdistill.search.one_shot import NniSupernet, OneShot
from nasdistill.search.strategies import STRATEGIES


@STRATEGIES.register("nni:gumbel-darts")
class NniGumbelDarts(OneShot):
    """Mix all alternatives by a Gumbel softmax, whose temperature falls: from a mixture towards a draw of one."""

    source: ClassVar[str] = "Xie et al. 2019, SNAS (arXiv:1812.09926); Wu et al. 2019, FBNet (arXiv:1812.03443)"

    temperature: float = Field(1.0, gt=0, description="temperature of the softmax in the first epoch")
    temperature_end: float = Field(0.33, gt=0, description="what it falls towards, by the same amount each epoch")

    @model_validator(mode="after")
    def _temperature_falls(self) -> NniGumbelDarts:
        if self.temperature_end > self.temperature:
            problem = f"the temperature falls from {self.temperature}, got {self.temperature_end}"
            raise SpecError(problem, ("temperature_end",))
        return self

    def strategy(self) -> Any:
        from nni.nas.strategy import GumbelDARTS

        return GumbelDARTS()

    def begin_epoch(self, supernet: NniSupernet, epoch: int) -> None:
        from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax

        for module in supernet.modules():
            if isinstance(module, GumbelSoftmax):
                module.tau = self.temperature_of(epoch)

    def temperature_of(self, epoch: int) -> float:
        """Of the epoch, counted from 0."""
        return self.temperature + (self.temperature_end - self.temperature) * epoch / self.epochs
