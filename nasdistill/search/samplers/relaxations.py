"""The relaxations of the choice between operations that are published."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.search.mixture import Moment
from nasdistill.search.samplers import SAMPLERS, Annealed, Sampler

if TYPE_CHECKING:
    import torch


@SAMPLERS.register("softmax")
class Softmax(Sampler):
    """The softmax of an edge's alphas."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS (arXiv:1806.09055), equation 2"

    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        return alphas.softmax(dim=1)


@SAMPLERS.register("sigmoid")
class Sigmoid(Sampler):
    """A gate for each operation: they need not sum to 1, so that none must win at another's cost."""

    source: ClassVar[str] = "Chu et al. 2020, Fair DARTS (arXiv:1911.12126)"

    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        return alphas.sigmoid()


@SAMPLERS.register("gumbel")
class Gumbel(Annealed, Sampler):
    """softmax((alphas + Gumbel noise) / temperature), whose largest weight is drawn with probability softmax(alphas).

    A hard draw takes that operation alone, computes no other one, and has its gradient. Curves and the end read
    softmax(alphas).
    """

    source: ClassVar[str] = "Dong and Yang 2019, GDAS (arXiv:1910.04465); Xie et al. 2019, SNAS (arXiv:1812.09926)"

    temperature: float = Field(10.0, gt=0, description="temperature of the softmax in the first epoch")
    temperature_end: float = Field(0.1, gt=0, description="what it falls towards, by the same amount each epoch")
    hard: bool = Field(True, description="draw one operation for each edge, instead of a mixture near it")

    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        from torch.nn import functional

        if not moment.half:
            return alphas.softmax(dim=1)
        return functional.gumbel_softmax(alphas, self.temperature_at(moment.progress), self.hard, dim=1)

    def sparse(self) -> bool:
        return self.hard


@SAMPLERS.register("dirichlet")
class Dirichlet(Sampler):
    """Draw from the Dirichlet distribution of concentration elu(alphas) + 1; curves and the end read its mean."""

    source: ClassVar[str] = "Chen et al. 2021, DrNAS (arXiv:2006.10355)"

    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        import torch

        concentration = torch.nn.functional.elu(alphas) + 1
        if not moment.half:
            return concentration / concentration.sum(dim=1, keepdim=True)
        drawn: torch.Tensor = torch.distributions.Dirichlet(concentration, validate_args=False).rsample()
        return drawn
