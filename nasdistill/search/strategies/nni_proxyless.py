"""nni's Proxyless: one drawn path a step, and gradients for the weights that it is drawn by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nasdistill.search.one_shot import Choices, NniSupernet, OneShot
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.nni_hub import NniSpace
from nasdistill.search.strategies import STRATEGIES

if TYPE_CHECKING:
    from nasdistill.data.loaders import ImageBatches
    from nasdistill.training.engine import Engine


@STRATEGIES.register("nni:proxyless")
class NniProxyless(OneShot):
    """Each step draws one alternative of each choice by learned probabilities, and computes that path alone.

    The probabilities are learned by the chain rule through the gates, with the other alternatives' outputs. What is
    found is the likeliest alternative of each choice (nni itself draws once more).
    """

    source: ClassVar[str] = (
        "Cai et al. 2019, ProxylessNAS (arXiv:1812.00332), section 3.2, as nni.nas.strategy.Proxyless"
    )
    nni_name: ClassVar[str] = "Proxyless"
    exact: ClassVar[bool] = True

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        refused = super().reason_to_refuse(space)
        if refused is None and isinstance(space, NniSpace) and space.choices_within_layers() is not None:
            return f"nni's Proxyless chooses between whole layers, not {space.choices_within_layers()}"
        return refused

    def sample(self, supernet: NniSupernet, choices: Choices, seed: int) -> None:
        supernet.follow({})

    def choose(
        self, supernet: NniSupernet, choices: Choices, architecture_batches: ImageBatches, engine: Engine, seed: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        probabilities = supernet.probabilities()
        return {label: max(probabilities[label], key=probabilities[label].__getitem__) for label in choices}, {}
