"""One-shot search of nni's spaces: nni makes the supernet, the loop, its data and its checkpoints are ours."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from nasdistill.data.loaders import ImageBatches
from nasdistill.models.nni_hub import ThreeChannels, alternatives
from nasdistill.search.gradient import Learner
from nasdistill.search.gradient_search import GradientSearch
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.nni_hub import NniSpace
from nasdistill.search.strategies import SearchResult
from nasdistill.search.weight_sharing import WeightSharing

if TYPE_CHECKING:
    from nasdistill.data.base import Data, Shape
    from nasdistill.training.engine import Engine

Choices = Mapping[str, tuple[Any, ...]]


class NniSupernet(WeightSharing, ThreeChannels):
    """A space that one of nni's strategies has made a supernet of, which holds all alternatives.

    Its modules that choose learn how to (`alphas`), or follow what is drawn for them, or both.
    """

    def chosen(self) -> dict[str, Any]:
        """What nni reads from the supernet as its best architecture: by label an alternative."""
        return self._each("export")

    def follow(self, chosen: Mapping[str, Any]) -> None:
        """Choose for the next forward passes; what is not in `chosen` nni draws from torch's global generator."""
        memo = dict(chosen)
        for module in self._choosing():
            memo.update(module.resample(memo=memo))

    def alphas(self) -> list[nn.Parameter]:
        # Modules of the same label share theirs.
        found = (alpha for module in self._choosing() for alpha in getattr(module, "arch_parameters", list)())
        return list({id(alpha): alpha for alpha in found}.values())

    @torch.no_grad()
    def probabilities(self) -> dict[str, dict[Any, float]]:
        """By label the softmax of what was learned over the alternatives, without noise; where nothing is, nothing."""
        noisy = [(module, module._softmax) for module in self._choosing() if hasattr(module, "_softmax")]
        try:
            for module, _softmax in noisy:
                module._softmax = nn.Softmax(-1)
            found = self._each("export_probs") if noisy else {}
            return {
                label: {each: float(weight) for each, weight in weights.items()} for label, weights in found.items()
            }
        finally:
            for module, softmax in noisy:
                module._softmax = softmax

    def _choosing(self) -> list[Any]:
        from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule

        return [module for module in self.modules() if isinstance(module, BaseSuperNetModule)]

    def _each(self, method: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for module in self._choosing():
            found.update(getattr(module, method)(memo=found))
        return found


class OneShot(GradientSearch):
    """Base of nni's one-shot strategies.

    Half of the training images (drawn per class, by the seed) teach the weights, the other half the architecture, as in
    our own `darts`, whose defaults these are. Where nni draws paths or noise, what it draws is a function of seed and
    step.
    """

    nni_name: ClassVar[str]
    """The class in `nni.nas.strategy`, which makes a supernet of a space."""
    exact: ClassVar[bool] = False
    """Whether nni's code computes in 32 bits alone."""

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        return None if isinstance(space, NniSpace) else "it needs one of nni's spaces (nni:...)"

    def begin_epoch(self, supernet: NniSupernet, epoch: int) -> None:
        """Called before the first step of an epoch, also where the search goes on in the middle of it."""

    def sample(self, supernet: NniSupernet, choices: Choices, seed: int) -> None:
        """Called before each forward pass, with a seed of its own; torch's global generator starts from it too."""

    def choose(
        self, supernet: NniSupernet, choices: Choices, architecture_batches: ImageBatches, engine: Engine, seed: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The architecture that the trained supernet stands for, and metrics. No weights learned from these batches."""
        return supernet.chosen(), {}

    def supernet(self, hub_space: Any, shape: Shape) -> NniSupernet:
        """The supernet of a space of nni's."""
        strategy = getattr(importlib.import_module("nni.nas.strategy"), self.nni_name)()
        return NniSupernet(strategy.mutate_model(hub_space), shape)

    def learner(self, space: SearchSpace, data: Data, engine: Engine, seed: int) -> Learner:
        assert isinstance(space, NniSpace)
        return NniLearner(self, space, data, engine, seed)


class NniLearner(Learner):
    """A supernet that nni made."""

    supernet: NniSupernet

    def __init__(self, strategy: OneShot, space: NniSpace, data: Data, engine: Engine, seed: int) -> None:
        hub_space = space.build(len(data.classes))
        self.choices = alternatives(hub_space)
        super().__init__(strategy, strategy.supernet(hub_space, data.shape), engine, seed, strategy.exact)
        self.strategy = strategy
        self.space = space
        self.engine = engine

    def begin_epoch(self, epoch: int) -> None:
        self.strategy.begin_epoch(self.supernet, epoch)

    def logits(self, half: str, images: torch.Tensor, number: int) -> torch.Tensor:
        # All processes draw the same path, and the same noise on the way, as one process would.
        with self.noise(half, number) as seed:
            self.strategy.sample(self.supernet, self.choices, seed)
            return super().logits(half, images, number)

    def curves(self, epoch: int) -> dict[str, float]:
        """Each alternative's weight, and by kind of choice their mean entropy in nats."""
        curves: dict[str, float] = {}
        entropies: dict[str, list[float]] = {}
        for label, weights in self.supernet.probabilities().items():
            kind = kind_of(label)
            place = label.replace("/", "-")
            curves |= {f"alpha/{kind}/{place}/{alternative}": weight for alternative, weight in weights.items()}
            entropies.setdefault(kind, []).append(
                -sum(weight * math.log(weight) for weight in weights.values() if weight > 0)
            )
        return curves | {f"entropy/{kind}": sum(values) / len(values) for kind, values in entropies.items()}

    def found(self) -> SearchResult:
        chosen, metrics = self.strategy.choose(
            self.supernet, self.choices, self.architecture_batches, self.engine, self.seed
        )
        return SearchResult(self.space.model({label: chosen[label] for label in self.choices}), metrics=metrics)


def kind_of(label: str) -> str:
    """What a label of nni's is about, its numbers left out.

    Examples:
        >>> kind_of("s2_i0_exp")
        'exp'
        >>> kind_of("normal/2_0")
        'normal'
        >>> kind_of("s2_i0")
        'layer'
    """
    words = [word for word in re.split("[_/]", label) if not re.search(r"\d", word)]
    return "_".join(words) or "layer"
