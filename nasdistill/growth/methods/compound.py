"""Growing depth and width together."""

from __future__ import annotations

import functools
import math
from typing import ClassVar

from pydantic import Field, model_validator

from nasdistill.errors import SpecError
from nasdistill.growth.methods import GROWTH_METHODS, Grown
from nasdistill.growth.methods.depth import Depth, step_to, with_more_blocks
from nasdistill.growth.plan import fitted, growable
from nasdistill.models.base import NetworkSpec


@GROWTH_METHODS.register("compound")
class Compound(Depth):
    """Makes the network alpha^phi times as deep and beta^phi times as wide, at the phi of the ratio.

    Size goes with the depth and with the square of the width: phi = log(ratio) / log(alpha beta^2). The depth is
    rounded, down where it alone would exceed the ratio; then all widths are scaled alike to what is left. A network of
    few blocks may gain none.
    """

    source: ClassVar[str] = "Tan and Le 2019, EfficientNet (arXiv:1905.11946), section 3.3, without the resolution"

    alpha: float = Field(1.2, ge=1, description="depth over depth before, where phi is 1; 1.0 leaves the depth")
    beta: float = Field(1.1, ge=1, description="width over width before, where phi is 1")

    @model_validator(mode="after")
    def _grows(self) -> Compound:
        if self.alpha == self.beta == 1:
            raise SpecError("alpha and beta are 1, so that nothing grows", ("alpha",))
        return self

    def _grown(self, spec: NetworkSpec) -> Grown:
        target, depth = self.target(spec), growable(spec).blocks() or 0
        phi = math.log(target.ratio) / math.log(self.alpha * self.beta**2)
        deepened = functools.partial(with_more_blocks, spec)
        wanted = round(depth * self.alpha**phi) - depth
        deeper = deepened(min(wanted, target.passing(deepened, start=depth) - 1))
        found = target.checked(fitted(deeper, target), "adding depth and scaling all widths alike")
        return Grown(found, [step_to(each, target) for each in (deeper, found)])
