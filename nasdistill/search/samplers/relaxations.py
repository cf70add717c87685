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


@SAMPLERS.register("perturbed")
class Perturbed(Sampler):
    """softmax(alphas); while weights learn, with uniform noise in [-radius, radius], cut to [0, 1], the sum made 1.

    The radius grows linearly with the epochs. Where noise takes all weights of an edge below 0, the largest is 1.
    """

    source: ClassVar[str] = "Chen and Hsieh 2020, SmoothDARTS (arXiv:2002.05283), SDARTS-RS"

    radius: float = Field(0.03, ge=0, description="largest noise in the first epoch")
    radius_end: float = Field(0.3, ge=0, description="what it goes towards, by the same amount each epoch")

    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        import torch

        weights = alphas.softmax(dim=1)
        if moment.half != "training":
            return weights
        radius = self.radius + (self.radius_end - self.radius) * moment.progress
        noisy = weights + radius * (2 * torch.rand_like(weights) - 1)
        cut = noisy.clamp(0, 1)
        largest = torch.nn.functional.one_hot(noisy.argmax(dim=1), weights.shape[1])
        cut = torch.where(cut.sum(dim=1, keepdim=True) > 0, cut, largest.to(cut.dtype))
        return cut / cut.sum(dim=1, keepdim=True)
