"""A race between networks: each is trained for some epochs, on the same batches, and can be trained on later."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from nasdistill.data.loaders import training_batches
from nasdistill.data.seeds import derived_seed, seeded
from nasdistill.models.inspection import count_parameters
from nasdistill.training.checkpoints import load_optimizer
from nasdistill.training.processes import all_reduce_mean
from nasdistill.training.schedules.standard import Cosine

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.models.base import NetworkSpec
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.optimizers import Optimizer
    from nasdistill.training.records import Progress


class Racer:
    """One network of a race.

    Attributes:
        seen: of each step, before it was learned from, the loss in nats and the share of images that are right.
        means: of the whole epochs, the same.
    """

    def __init__(
        self, number: int, chosen: Mapping[str, Any], spec: NetworkSpec, optimizer: Optimizer, seed: int, engine: Engine
    ) -> None:
        self.number, self.chosen, self.spec = number, chosen, spec
        with seeded(derived_seed(seed, "weights of racers"), engine.device):
            self.network = spec.build()
        self.parameters = count_parameters(self.network)
        engine.place(self.network)
        self.optimizer = optimizer.build(self.network.parameters())
        self.peak = [group["lr"] for group in self.optimizer.param_groups]
        self.module, self.stepper = engine.setup(self.network, self.optimizer)
        self.seen: list[tuple[float, float]] = []
        self.means: list[tuple[float, float]] = []

    @property
    def epoch(self) -> int:
        """How many it has been trained for."""
        return len(self.means)

    @property
    def diverged(self) -> bool:
        return bool(self.means) and not math.isfinite(self.means[-1][0])

    def loss(self, begun: int, until: int) -> float:
        """Mean over these epochs; infinite where it diverged by then."""
        losses = [loss for loss, _right in self.means[begun:until]]
        return statistics.fmean(losses) if len(losses) == until - begun and math.isfinite(losses[-1]) else math.inf

    def trial(self) -> dict[str, Any]:
        """As `trials.json` holds it."""
        curve = [] if self.diverged else [100 * right for _loss, right in self.means]
        return {
            "chosen": dict(self.chosen),
            "parameters": self.parameters,
            "score": max(curve, default=None),
            "curve": curve,
            "stopped": "diverged" if self.diverged else None,
            "like": None,
        }

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "means": self.means,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.seen, self.means = ([(loss, right) for loss, right in state[name]] for name in ("seen", "means"))


class Race:
    """What all racers have in common.

    Args:
        epochs: of the longest training; its learning rates are those of all.
    """

    def __init__(
        self,
        racers: list[Racer],
        data: Data,
        engine: Engine,
        seed: int,
        batch_size: int,
        epochs: int,
        clip: float | None,
        checkpoints: Checkpoints,
    ) -> None:
        self.racers, self.engine, self.seed, self.checkpoints, self.clip = racers, engine, seed, checkpoints, clip
        self.epochs, self.schedule = epochs, Cosine()
        self.batches = training_batches(data, batch_size, derived_seed(seed, "race"), engine)
        self.steps_per_epoch = len(self.batches)
        self.steps = epochs * self.steps_per_epoch

    def done(self) -> int:
        """Steps of all racers together."""
        return sum(len(racer.seen) for racer in self.racers)

    def resume(self) -> int:
        """Go on from the last checkpoint, if there is one; the steps that are done."""
        saved = self.checkpoints.load()
        for racer, state in zip(self.racers, saved["racers"] if saved else (), strict=False):
            racer.load(state)
        return self.done()

    def train(self, racer: Racer, until: int, progress: Progress) -> None:
        """Train until so many epochs are done; one whose loss is no longer a number ends with that epoch."""
        racer.module.train()
        while racer.epoch < until and not racer.diverged:
            position = len(racer.seen) - racer.epoch * self.steps_per_epoch
            for batch in self.batches.epoch(racer.epoch, position):
                self._step(racer, batch.images, batch.labels)
                progress.step(f"architecture {racer.number}, epoch {racer.epoch + 1}")
                self.checkpoints.step(self.done(), self.state)
            loss, right = torch.tensor(racer.seen[-self.steps_per_epoch :], dtype=torch.float64).mean(dim=0).tolist()
            racer.means.append((loss, right))

    def state(self) -> dict[str, Any]:
        return {"racers": [racer.state() for racer in self.racers]}

    def _step(self, racer: Racer, images: torch.Tensor, labels: torch.Tensor) -> None:
        done = len(racer.seen)
        for group, peak in zip(racer.optimizer.param_groups, racer.peak, strict=True):
            group["lr"] = peak * self.schedule.factor(done / self.steps, self.epochs)
        with seeded(derived_seed(self.seed, "step of a race", done), self.engine.device):
            logits = racer.module(images).float()
            loss = functional.cross_entropy(logits, labels)
            self.engine.optimizer_step({"cross-entropy": loss}, racer.module, racer.stepper, self.clip)
        right = logits.detach().argmax(dim=1) == (labels if labels.ndim == 1 else labels.argmax(dim=1))
        (seen,) = all_reduce_mean([torch.stack([loss.detach(), right.float().mean()])])
        racer.seen.append(tuple(seen.tolist()))


def ranking(racers: Iterable[Racer], begun: int, until: int) -> list[Racer]:
    """By their losses of these epochs, the lowest first: of equals the smallest network, and then the earliest."""
    return sorted(racers, key=lambda racer: (racer.loss(begun, until), racer.parameters, racer.number))


def lead(best: Racer, other: Racer) -> tuple[float, float]:
    """How much lower the loss of one racer is than that of another, on batches that both saw, and its standard error.

    Of the last epoch that both were trained for: before, all that counts is how they began.
    """
    epochs = min(best.epoch, other.epoch)
    per_epoch = len(best.seen) // best.epoch
    steps = slice((epochs - 1) * per_epoch, epochs * per_epoch)
    differences = torch.tensor(
        [its - ours for (ours, _), (its, _) in zip(best.seen[steps], other.seen[steps], strict=True)],
        dtype=torch.float64,
    )
    if len(differences) < 2:
        return float(differences.mean()), math.inf
    return float(differences.mean()), float(differences.std() / math.sqrt(len(differences)))
