"""How a generator comes to each pseudo-batch: as the last one left it, drawn anew, or from weights common to all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nasdistill.data.seeds import generator_for
from nasdistill.errors import UserError
from nasdistill.training.checkpoints import load_optimizer
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.of_one_batch import OfOneBatch
from nasdistill.zero_shot.settings import TransferSettings


class Life:
    """Prepares the generator for a pseudo-batch, and learns from what its steps made of it; a part of a loop's state.

    Common weights learn as those of first-order meta-learning: their gradient is the sum of the gradients of the
    generator's steps, each taken where the generator was (`fomaml`), or how far all steps together went, turned round
    (`reptile`).

    Source: Fang et al., Up to 100x Faster Data-Free Knowledge Distillation (2022), and its released code, whose FOMAML
    sums over all steps where Finn et al. (2017) take the gradient of the last.

    Args:
        optimizer: the generator's; forgets its moments where the generator begins anew.
        processes: how many train together.

    Raises:
        UserError: several processes, and a part of the generator belongs to one pseudo-batch, or a loss learns beside a
            generator of which each process has its own.
    """

    def __init__(
        self,
        generation: Generation,
        optimizer: torch.optim.Optimizer,
        settings: TransferSettings,
        seed: int,
        processes: int,
    ) -> None:
        self._generation = generation
        self._optimizer = optimizer
        self._settings = settings
        self._seed = seed
        self._every = 1 if generation.component.starts_over else settings.start_over_every
        self._parts = [module for module in generation.modules() if isinstance(module, OfOneBatch)]
        if self._parts and processes > 1:
            raise UserError(
                "what a generator learns for one pseudo-batch alone (`latent_speed`, a noisy layer) belongs to one "
                f"process, and here are {processes}; compute with `devices: 1`"
            )
        self._passing = [parameter for part in self._parts for parameter in part.parameters()]
        passing = {id(parameter) for parameter in self._passing}
        self._weights = [each for each in generation.generator.parameters() if id(each) not in passing]
        of_losses = {id(each) for each in generation.parameters()} - passing - {id(each) for each in self._weights}
        if of_losses and generation.component.starts_over and processes > 1:
            raise UserError(
                f"a generator loss that learns (`contrastive`) would learn apart in each of {processes} processes, as "
                f"{generation.component.registered_name!r} is optimised by each for itself; compute with `devices: 1`"
            )
        self._common = [nn.Parameter(each.detach().clone()) for each in self._weights if settings.adapt != "none"]
        self._learner = settings.adapt_optimizer.build(self._common) if self._common else None
        if settings.adapt == "fomaml":
            optimizer.register_step_pre_hook(lambda *_: self._add_gradients())

    def begin(self, done: int) -> None:
        """Before the generator's steps of the iteration that comes after `done` ones."""
        if self._every and done % self._every == 0:
            self.start_over(done)
        elif self._learner is not None:
            _copy(self._common, self._weights)
        elif not self._parts:
            return
        chance = generator_for("of one pseudo-batch", self._seed, done)
        for part in self._parts:
            part.renew(chance)
        self._forget()

    def end(self, done: int) -> None:
        """After these steps."""
        self._generation.remember()
        if self._learner is None:
            return
        if self._settings.adapt == "reptile":
            for common, adapted in zip(self._common, self._weights, strict=True):
                common.grad = common.detach() - adapted.detach()
        fraction = done / self._settings.pseudo_batches
        factor = self._settings.generator_schedule.factor(fraction, self._settings.pseudo_batches)
        for group in self._learner.param_groups:
            group["lr"] = self._settings.adapt_optimizer.lr * factor
        self._learner.step()
        self._learner.zero_grad()

    def start_over(self, done: int) -> None:
        """Draw the generator's weights anew, common ones too."""
        self._generation.start_over(self._seed, done)
        self._forget()
        if self._learner is not None:
            _copy(self._weights, self._common)
            self._learner.state.clear()

    def state_dict(self) -> dict[str, Any]:
        if self._learner is None:
            return {}
        return {"common": [each.detach() for each in self._common], "learner": self._learner.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        if self._learner is not None:
            _copy(state_dict["common"], self._common)
            load_optimizer(self._learner, state_dict["learner"])

    def _forget(self) -> None:
        """What the optimizer knows of the generator; losses that learn go on."""
        for parameter in (*self._weights, *self._passing):
            self._optimizer.state.pop(parameter, None)

    def _add_gradients(self) -> None:
        for common, adapted in zip(self._common, self._weights, strict=True):
            if adapted.grad is not None:
                common.grad = adapted.grad.clone() if common.grad is None else common.grad.add_(adapted.grad)


def _copy(source: list[nn.Parameter], target: list[nn.Parameter]) -> None:
    with torch.no_grad():
        for theirs, ours in zip(source, target, strict=True):
            ours.copy_(theirs)
