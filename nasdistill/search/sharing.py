"""Random search with weight sharing: a supernet of cells trained by drawn architectures, which then tells the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from nasdistill.data.seeds import generator_for
from nasdistill.models.base import NetworkSpec
from nasdistill.models.genotypes import Cell
from nasdistill.models.inspection import count_parameters
from nasdistill.models.memory_limit import within_memory
from nasdistill.search.cell_supernet import CellSupernet
from nasdistill.search.gradient import Learner, halves, learn
from nasdistill.search.inheritance import inherit
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.settings import GradientOptions
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import SearchResult
from nasdistill.search.strategies.random import sample, sample_cell
from nasdistill.search.supernets import supernet_of
from nasdistill.search.trials import leaders
from nasdistill.search.weight_sharing import accuracy_of

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.given import Given
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine

Cells = Mapping[str, Cell]
"""By kind."""


def only(space: CellSpace, kind: str, cell: Cell, device: torch.device) -> Mixture:
    """The mixture in which each edge of a cell carries its operation alone, and all other edges nothing."""
    offered = space.offered(kind)
    weights = torch.zeros(len(offered), len(offered[0]), device=device)
    for node, edges in enumerate(cell):
        for operation, state in edges:
            row = space.edges().index((state, node))
            weights[row, offered[row].index(operation)] = 1
    return Mixture(kind, Moment(), weights, weights, computed=weights.bool().tolist())


class SharingLearner(Learner):
    """The weights of a supernet of cells; nothing is learned of the architecture."""

    supernet: CellSupernet

    def __init__(
        self, options: GradientOptions, candidates: int, space: CellSpace, data: Data, engine: Engine, seed: int
    ) -> None:
        supernet = within_memory(lambda: supernet_of(space, data.shape, len(data.classes)))
        super().__init__(options, supernet, engine, seed, exact=False)
        self.alphas, self.adam = [], None
        self.options, self.candidates = options, candidates
        self.space, self.data, self.engine = space, data, engine

    def drawn(self, generator: torch.Generator) -> Cells:
        """An architecture, all equally likely."""
        return {kind: sample_cell(self.space, kind, generator) for kind in self.space.kinds}

    def logits(self, half: str, images: torch.Tensor, number: int) -> torch.Tensor:
        return self.logits_of(self.drawn(generator_for(self.seed, "architecture", number)), images)

    def logits_of(self, cells: Cells, images: torch.Tensor) -> torch.Tensor:
        """Those of one architecture with the shared weights."""
        mixtures = {kind: only(self.space, kind, cell, images.device) for kind, cell in cells.items()}
        return self.supernet.logits(images, mixtures)

    def curves(self, epoch: int) -> dict[str, float]:
        return {}

    def accuracy(self, cells: Cells) -> float:
        """Of an architecture, in percent, on the half of the images that taught the weights nothing."""
        return accuracy_of(
            lambda images: self.logits_of(cells, images), self.architecture_batches, self.options.epochs, self.engine
        )

    def found(self) -> SearchResult:
        """The drawn candidate that is right most often, see `leaders`."""
        generator = generator_for(self.seed, "candidates")
        trials: list[dict[str, Any]] = []
        models: list[dict[str, Any]] = []
        choices = self.space.choices(self.data.shape, len(self.data.classes))
        for _ in range(self.candidates):
            chosen = sample(choices, generator)
            cells, model = self.space.cells_of(chosen), self.space.model(chosen)
            if model in models:
                continue
            models.append(model)
            score = self.accuracy(cells)
            parameters = count_parameters(NetworkSpec.for_data(model, self.data).build())
            once: dict[str, Any] = {"curve": [score], "stopped": None, "like": None}
            trials.append({"chosen": chosen, "parameters": parameters, "score": score, **once})
        best = leaders((trial["score"], trial["parameters"]) for trial in trials)[-1]
        assert best is not None  # there is a candidate, and each has a score
        return SearchResult(
            models[best],
            metrics={"supernet_accuracy": trials[best]["score"], "trials": len(trials)},
            trials={"score": "accuracy with shared weights", "best": best, "trials": trials},
            hand_over=partial(
                inherit, self.supernet, self.space.cells_in(models[best]), self.weight_batches, self.engine
            ),
        )


class _Weights(SharingLearner):
    """The shared weights alone; others try the architectures."""

    def found(self) -> SearchResult:
        return SearchResult({})


class SharedWeights:
    """Architectures evaluated with the weights of one supernet, which drawn ones have trained before.

    Attributes:
        curves: of its training.
    """

    def __init__(self, options: GradientOptions, given: Given) -> None:
        self.given = given
        assert isinstance(given.space, CellSpace)
        torch.manual_seed(given.seed)
        learner = self.learner = _Weights(options, 0, given.space, given.data, given.engine, given.seed)

        def train(part: Checkpoints) -> dict[str, Any]:
            curves = learn(learner, options, replace(given, checkpoints=part)).history["curves"]
            return {"supernet": learner.supernet.state_dict(), "curves": curves}

        trained = given.phases.run(train)
        learner.supernet.load_state_dict(trained["supernet"])
        self.curves: dict[str, Any] = trained["curves"]
        _, learner.architecture_batches = halves(given.data, options.batch_size, given.engine, given.seed)

    def evaluate(self, architecture: Mapping[str, int], *_: object) -> tuple[list[float], None]:
        """An `Evaluation`."""
        cells = self.learner.space.cells_of(self.given.chosen(architecture))
        with self.given.engine.shared_statistics():
            return [self.learner.accuracy(cells)], None
