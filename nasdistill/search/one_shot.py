"""One-shot search of nni's spaces: nni makes the supernet, the loop, its data and its checkpoints are ours."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from nasdistill.data.loaders import Batches
from nasdistill.data.seeds import derived_seed
from nasdistill.errors import SpecError, UserError
from nasdistill.models.nni_hub import ThreeChannels, alternatives
from nasdistill.search.halves import CURVES, half_cosine, halves
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.nni_hub import NniSpace
from nasdistill.search.strategies import Found, Strategy
from nasdistill.training.checkpoints import load_optimizer, random_state, set_random_state
from nasdistill.training.history import History
from nasdistill.training.losses import RunningLosses, naming_the_last_good, refuse_broken_weights
from nasdistill.training.processes import refuse_difference, summed

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.training.batches import Batch
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records

STEPS_BETWEEN_LOOKS = 50

Choices = Mapping[str, tuple[Any, ...]]


class NniSupernet(ThreeChannels):
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
        """What is learned of the architecture, each once, though modules of the same label share it."""
        found = (alpha for module in self._choosing() for alpha in getattr(module, "arch_parameters", list)())
        return list({id(alpha): alpha for alpha in found}.values())

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        alphas = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]

    @torch.no_grad()
    def probabilities(self) -> dict[str, dict[Any, float]]:
        """By label the softmax of what was learned over the alternatives, without noise; where nothing is, nothing."""
        noisy = [(module, module._softmax) for module in self._choosing() if hasattr(module, "_softmax")]
        try:
            for module, _softmax in noisy:
                module._softmax = nn.Softmax(-1)
            told = self._each("export_probs") if noisy else {}
            return {label: {each: float(weight) for each, weight in weights.items()} for label, weights in told.items()}
        finally:
            for module, softmax in noisy:
                module._softmax = softmax

    def state(self) -> dict[str, torch.Tensor]:
        """As `state_dict`, with what is shared under its first name alone."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        present = self.state()
        if present.keys() != state.keys():
            raise UserError("the checkpoint is of another supernet; remove it to search anew")
        with torch.no_grad():
            for name, value in present.items():
                value.copy_(state[name])

    def _choosing(self) -> list[Any]:
        from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule

        return [module for module in self.modules() if isinstance(module, BaseSuperNetModule)]

    def _each(self, method: str) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for module in self._choosing():
            told.update(getattr(module, method)(memo=told))
        return told


class OneShot(Strategy):
    """Base of nni's one-shot strategies.

    Half of the training images (drawn per class, by the seed) teach the weights, the other half the architecture, as in
    our own `darts`, whose defaults these are. Where nni draws paths, what it draws is a function of seed and step.
    """

    exact: ClassVar[bool] = False
    """Whether nni's code computes in 32 bits alone."""

    epochs: int = Field(50, gt=0, description="passes over the half of the training images that teaches the weights")
    batch_size: int = Field(64, gt=1, description="images of a step, of each half, over all processes together")
    lr: float = Field(0.025, gt=0, description="learning rate of the weights at the start")
    lr_end: float = Field(0.001, ge=0, description="learning rate of the weights at the end of its cosine")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the weights")
    weight_decay: float = Field(3e-4, ge=0, description="weight decay of the weights")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient of all weights together")
    alpha_lr: float = Field(3e-4, gt=0, description="learning rate of the architecture (Adam, betas 0.5 and 0.999)")
    alpha_weight_decay: float = Field(1e-3, ge=0, description="weight decay of the architecture")

    @model_validator(mode="after")
    def _rate_falls(self) -> OneShot:
        if self.lr_end > self.lr:
            raise SpecError(f"the learning rate falls from lr {self.lr} to lr_end, got {self.lr_end}", ("lr_end",))
        return self

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        return None if isinstance(space, NniSpace) else "it needs one of nni's spaces (nni:...)"

    def strategy(self) -> Any:
        """nni's strategy, which makes a supernet of a space."""
        raise NotImplementedError(type(self).__name__)

    def begin_epoch(self, supernet: NniSupernet, epoch: int) -> None:
        """Called before the first step of an epoch, also where the search goes on in the middle of it."""

    def draw(self, supernet: NniSupernet, choices: Choices, seed: int) -> None:
        """Called before each forward pass, with a seed of its own."""

    def choose(
        self, supernet: NniSupernet, choices: Choices, judging: Batches, engine: Engine, seed: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The architecture that the trained supernet stands for, and metrics; `judging` taught no weights."""
        return supernet.chosen(), {}

    def search(
        self, space: SearchSpace, data: Data, engine: Engine, seed: int, checkpoints: Checkpoints, records: Records
    ) -> Found:
        assert isinstance(space, NniSpace)
        torch.manual_seed(seed)
        hub_space = space.build(len(data.classes))
        choices = alternatives(hub_space)
        supernet = NniSupernet(self.strategy().mutate_model(hub_space), data.shape).train()
        engine.place(supernet)
        weights, alphas = supernet.weights(), supernet.alphas()
        sgd = torch.optim.SGD(weights, self.lr, self.momentum, weight_decay=self.weight_decay)
        adam = (
            torch.optim.Adam(alphas, self.alpha_lr, (0.5, 0.999), weight_decay=self.alpha_weight_decay)
            if alphas
            else None
        )
        teaching, judging = halves(data, self.batch_size, engine, seed)
        steps_per_epoch = min(len(teaching), len(judging)) if alphas else len(teaching)
        precision = contextlib.nullcontext() if self.exact else engine.autocast()
        seen: dict[str, torch.Tensor] = {}

        def loss_on(half: str, batch: Batch, step: int) -> torch.Tensor:
            self.draw(supernet, choices, derived_seed(seed, half, step))
            with precision:
                logits = supernet(batch.images)
            value = functional.cross_entropy(logits.float(), batch.labels)
            seen[half] = value.detach()
            seen[f"{half} accuracy"] = 100 * (logits.argmax(dim=1) == batch.labels).float().mean()
            return value

        epoch = position = trained = 0
        seconds = 0.0
        losses, history = RunningLosses(), History()

        def capture() -> dict[str, Any]:
            state = {"losses": losses.state(), "supernet": supernet.state()}
            refuse_broken_weights(state["supernet"], epoch * steps_per_epoch + position)
            return {
                **state,
                "sgd": sgd.state_dict(),
                "adam": adam.state_dict() if adam else None,
                "epoch": epoch,
                "position": position,
                "trained": trained,
                "seconds": seconds,
                "curves": history.curves,
                "random": random_state(),
            }

        saved = checkpoints.load()
        if saved is None:
            history.add(_architecture(supernet), 0)
        else:
            supernet.load_state(saved["supernet"])
            load_optimizer(sgd, saved["sgd"])
            if adam:
                load_optimizer(adam, saved["adam"])
            epoch, position, trained, seconds = (saved[key] for key in ("epoch", "position", "trained", "seconds"))
            losses, history = RunningLosses(saved["losses"]), History(saved["curves"])
            set_random_state(saved["random"])
        engine.diversify_random_state()

        total, done = self.epochs * steps_per_epoch, epoch * steps_per_epoch + position
        with (
            naming_the_last_good(checkpoints),
            engine.shared_statistics(),
            records.progress(total, done) as progress,
        ):
            while epoch < self.epochs:
                rate = sgd.param_groups[0]["lr"] = half_cosine(self.lr, self.lr_end, epoch / self.epochs)
                self.begin_epoch(supernet, epoch)
                clock = time.perf_counter()
                others = judging.epoch(epoch, position) if adam else itertools.repeat(None)
                for training_batch, validation_batch in zip(teaching.epoch(epoch, position), others, strict=False):
                    step = epoch * steps_per_epoch + position
                    if adam and validation_batch is not None:
                        _descend(adam, alphas, loss_on("validation", validation_batch, step), engine)
                        trained += len(validation_batch.labels) * engine.processes
                    _descend(sgd, weights, loss_on("training", training_batch, step), engine, self.clip)
                    trained += len(training_batch.labels) * engine.processes

                    position += 1
                    losses.add(step + 1, list(seen), torch.stack(list(seen.values())))
                    if position % STEPS_BETWEEN_LOOKS == 0 or position == steps_per_epoch:
                        losses.look()
                    seconds, clock = seconds + time.perf_counter() - clock, time.perf_counter()
                    # Reading the architecture counts as a step, so that the number grows at an epoch's edge too.
                    checkpoints.step(epoch * (steps_per_epoch + 1) + position, capture)
                    progress.step(f"epoch {epoch + 1}")

                means = losses.means()
                losses = RunningLosses()
                epoch, position = epoch + 1, 0
                refuse_difference(alphas or weights[:1], f"the architecture after epoch {epoch}")
                news = {CURVES[name]: value for name, value in means.items()}
                news |= {"learning rate": rate, **_architecture(supernet)}
                history.add(news, epoch)
                records.scalars(news, epoch * steps_per_epoch)
                checkpoints.step(epoch * (steps_per_epoch + 1), capture)

            chosen, metrics = self.choose(supernet, choices, judging, engine, seed)
        metrics |= {"samples_per_second": trained / seconds, "epochs": epoch}
        return Found(space.model({label: chosen[label] for label in choices}), {"curves": history.curves}, metrics)


def _descend(
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    loss: torch.Tensor,
    engine: Engine,
    clip: float = math.inf,
) -> None:
    """One step, of those parameters alone that the loss reads: others, off the drawn path, stay where they are."""
    slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, slope in zip(parameters, slopes, strict=True):
        parameter.grad = None if slope is None else summed(slope) / engine.processes
    if clip < math.inf:
        nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()


def _architecture(supernet: NniSupernet) -> dict[str, float]:
    """What the search thinks now: each alternative's weight, and by kind of choice their mean entropy in nats."""
    told: dict[str, float] = {}
    entropies: dict[str, list[float]] = {}
    for label, weights in supernet.probabilities().items():
        kind = kind_of(label)
        place = label.replace("/", "-")
        told |= {f"alpha/{kind}/{place}/{alternative}": weight for alternative, weight in weights.items()}
        entropies.setdefault(kind, []).append(
            -sum(weight * math.log(weight) for weight in weights.values() if weight > 0)
        )
    return told | {f"entropy/{kind}": sum(values) / len(values) for kind, values in entropies.items()}


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
