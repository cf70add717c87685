"""Differentiable architecture search: the weights of the operations are learned by gradient, beside the network's."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch.nn import functional

from nasdistill.errors import SpecError
from nasdistill.models.genotypes import Genotype
from nasdistill.search.bilevel import Loss, Tensors, first_order, gradients, second_order
from nasdistill.search.discretise import count_skips, discretise, entropy
from nasdistill.search.halves import CURVES, half_cosine, halves
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES, Found, Strategy
from nasdistill.search.supernet import Supernet
from nasdistill.training.batches import Batch
from nasdistill.training.checkpoints import load_optimizer, random_state, set_random_state
from nasdistill.training.history import History
from nasdistill.training.losses import RunningLosses, naming_the_last_good, refuse_broken_weights
from nasdistill.training.processes import refuse_difference

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records

log = logging.getLogger(__name__)
STEPS_BETWEEN_LOOKS = 50


@STRATEGIES.register("darts")
class DartsSearch(Strategy):
    """Relax the choice of operations to a softmax over all of them, and learn it by gradient descent.

    Half of the training images (drawn per class, by the seed) teach the weights, the other half the architecture. The
    defaults are the published ones for CIFAR-10. Cutout and drop path are left out while searching, as published.
    Several processes average the gradients of weights and architecture, so that all learn the same one.
    """

    source: ClassVar[str] = "Liu et al. 2019, DARTS: Differentiable Architecture Search (arXiv:1806.09055)"

    epochs: int = Field(50, gt=0, description="passes over the half of the training images that teaches the weights")
    batch_size: int = Field(64, gt=1, description="images of a step, of each half, over all processes together")
    order: Literal[1, 2] = Field(
        1,
        description="1 takes the present weights for the optimal ones; 2 looks one weight step ahead, at 2.5 times the "
        "cost and always in 32-bit precision, which its finite differences need",
    )
    lr: float = Field(0.025, gt=0, description="learning rate of the weights at the start")
    lr_end: float = Field(0.001, ge=0, description="learning rate of the weights at the end of its cosine")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the weights")
    weight_decay: float = Field(3e-4, ge=0, description="weight decay of the weights")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient of all weights together")
    alpha_lr: float = Field(3e-4, gt=0, description="learning rate of the architecture (Adam, betas 0.5 and 0.999)")
    alpha_weight_decay: float = Field(1e-3, ge=0, description="weight decay of the architecture")
    max_skips: int | None = Field(
        None,
        ge=0,
        description="skip connections in the normal cell beyond which the search counts as collapsed; half of the "
        "edges that the cell keeps, if not given",
    )
    on_collapse: Literal["warn", "stop"] = Field(
        "warn", description="warn of a collapse, or stop there and keep the cells of the epoch before"
    )

    @model_validator(mode="after")
    def _rate_falls(self) -> DartsSearch:
        if self.lr_end > self.lr:
            raise SpecError(f"the learning rate falls from lr {self.lr} to lr_end, got {self.lr_end}", ("lr_end",))
        return self

    def learning_rate(self, epoch: int) -> float:
        """Half a cosine from `lr` to `lr_end`, constant within an epoch."""
        return half_cosine(self.lr, self.lr_end, epoch / self.epochs)

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        return None if isinstance(space, CellSpace) else "it needs a space of cells"

    def search(
        self, space: SearchSpace, data: Data, engine: Engine, seed: int, checkpoints: Checkpoints, records: Records
    ) -> Found:
        assert isinstance(space, CellSpace)
        torch.manual_seed(seed)
        supernet = Supernet(space, data.shape, len(data.classes)).train()
        engine.place(supernet)
        weights, alphas = supernet.weights(), supernet.alphas()
        sgd = torch.optim.SGD(weights, self.lr, self.momentum, weight_decay=self.weight_decay)
        adam = torch.optim.Adam(alphas, self.alpha_lr, betas=(0.5, 0.999), weight_decay=self.alpha_weight_decay)
        teaching_weights, teaching_alphas = halves(data, self.batch_size, engine, seed)
        steps_per_epoch = min(len(teaching_weights), len(teaching_alphas))
        precision = engine.autocast() if self.order == 1 else contextlib.nullcontext()
        seen: dict[str, torch.Tensor] = {}

        def loss_on(half: str, batch: Batch) -> Loss:
            """The supernet's loss on a batch as a function of its present weights; what came out last is in `seen`."""

            def loss() -> torch.Tensor:
                with precision:
                    logits = supernet(batch.images)
                value = functional.cross_entropy(logits.float(), batch.labels)
                accuracy = 100 * (logits.argmax(dim=1) == batch.labels).float().mean()
                seen[half], seen[f"{half} accuracy"] = value.detach(), accuracy
                return value

            return loss

        def mean(local: Tensors) -> list[torch.Tensor]:
            return _mean_over_processes(local, engine)

        epoch = position = trained = 0
        seconds = 0.0
        stopped = False
        losses, history = RunningLosses(), History()
        genotype = discretise(space, *supernet.mixture())

        def capture() -> dict[str, Any]:
            state = {"losses": losses.state(), "supernet": supernet.state_dict()}
            refuse_broken_weights(state["supernet"], epoch * steps_per_epoch + position)
            return {
                **state,
                "sgd": sgd.state_dict(),
                "adam": adam.state_dict(),
                "epoch": epoch,
                "position": position,
                "trained": trained,
                "seconds": seconds,
                "stopped": stopped,
                "genotype": genotype.model_dump(mode="json"),
                "curves": history.curves,
                "random": random_state(),
            }

        saved = checkpoints.load()
        if saved is None:
            history.add(_architecture(space, supernet, genotype), 0)
        else:
            supernet.load_state_dict(saved["supernet"])
            load_optimizer(sgd, saved["sgd"])
            load_optimizer(adam, saved["adam"])
            epoch, position, trained = (saved[key] for key in ("epoch", "position", "trained"))
            seconds, stopped = saved["seconds"], saved["stopped"]
            genotype = Genotype.model_validate(saved["genotype"])
            losses, history = RunningLosses(saved["losses"]), History(saved["curves"])
            set_random_state(saved["random"])
        engine.diversify_random_state()

        total, done = self.epochs * steps_per_epoch, epoch * steps_per_epoch + position
        with (
            naming_the_last_good(checkpoints),
            engine.shared_statistics(),
            records.progress(total, done) as progress,
        ):
            while epoch < self.epochs and not stopped:
                rate = sgd.param_groups[0]["lr"] = self.learning_rate(epoch)
                clock = time.perf_counter()
                batches = zip(
                    teaching_weights.epoch(epoch, position), teaching_alphas.epoch(epoch, position), strict=False
                )
                for training_batch, validation_batch in batches:
                    training_loss = loss_on("training", training_batch)
                    validation_loss = loss_on("validation", validation_batch)

                    if self.order == 1:
                        slopes = first_order(validation_loss, alphas, mean)
                    else:
                        slopes = second_order(
                            training_loss,
                            validation_loss,
                            weights,
                            alphas,
                            rate=rate,
                            velocities=_velocities(sgd, weights),
                            momentum=self.momentum,
                            weight_decay=self.weight_decay,
                            combine=mean,
                        )
                    _assign(alphas, slopes)
                    adam.step()

                    _assign(weights, gradients(training_loss(), weights, mean))
                    torch.nn.utils.clip_grad_norm_(weights, self.clip)
                    sgd.step()

                    position += 1
                    losses.add(epoch * steps_per_epoch + position, list(seen), torch.stack(list(seen.values())))
                    trained += (len(training_batch.labels) + len(validation_batch.labels)) * engine.processes
                    if position % STEPS_BETWEEN_LOOKS == 0 or position == steps_per_epoch:
                        losses.look()
                    seconds, clock = seconds + time.perf_counter() - clock, time.perf_counter()
                    # Reading the architecture counts as a step, so that the number grows at an epoch's edge too.
                    checkpoints.step(epoch * (steps_per_epoch + 1) + position, capture)
                    progress.step(f"epoch {epoch + 1}")

                means = losses.means()
                losses = RunningLosses()
                epoch, position = epoch + 1, 0
                refuse_difference(alphas, f"the architecture after epoch {epoch}")
                latest = discretise(space, *supernet.mixture())
                collapsed = self._collapsed(latest, epoch)
                stopped = collapsed and self.on_collapse == "stop"
                if not stopped or epoch == 1:
                    genotype = latest
                news = {curve: means[half] for half, curve in CURVES.items()}
                news |= {"learning rate": rate, **_architecture(space, supernet, latest)}
                history.add(news, epoch)
                records.scalars(news, epoch * steps_per_epoch)
                checkpoints.step(epoch * (steps_per_epoch + 1), capture)

        metrics = {"samples_per_second": trained / seconds, "epochs": epoch}
        return Found(space.model_of(genotype), {"curves": history.curves}, metrics)

    def _collapsed(self, genotype: Genotype, epoch: int) -> bool:
        edges = sum(map(len, genotype.normal))
        skips = count_skips(genotype.normal)
        collapsed = skips > (edges // 2 if self.max_skips is None else self.max_skips)
        if collapsed:
            log.warning(
                "the search collapses: after epoch %d, %d of the %d edges of the normal cell are skip connections%s",
                epoch,
                skips,
                edges,
                "; it stops here" if self.on_collapse == "stop" else "",
            )
        return collapsed


def _architecture(space: CellSpace, supernet: Supernet, genotype: Genotype) -> dict[str, float]:
    """What the search thinks now: each operation's weight on each edge, their entropy, and the skip connections."""
    told: dict[str, float] = {}
    for name, mixture in zip(("normal", "reduce"), supernet.mixture(), strict=True):
        for edge, row in enumerate(mixture.tolist()):
            told |= {f"alpha/{name}/{edge}/{op}": weight for op, weight in zip(space.operations, row, strict=True)}
        told[f"entropy/{name}"] = entropy(mixture)
        told[f"skips/{name}"] = float(count_skips(getattr(genotype, name)))
    return told


def _assign(parameters: Sequence[torch.nn.Parameter], slopes: Tensors) -> None:
    for parameter, slope in zip(parameters, slopes, strict=True):
        parameter.grad = slope


def _velocities(sgd: torch.optim.SGD, weights: Tensors) -> list[torch.Tensor]:
    """The momentum buffers; zeros before the first step."""
    return [
        velocity if (velocity := sgd.state[weight].get("momentum_buffer")) is not None else torch.zeros_like(weight)
        for weight in weights
    ]


def _mean_over_processes(local: Tensors, engine: Engine) -> list[torch.Tensor]:
    """Every process's tensors averaged, in one message."""
    if engine.processes == 1:
        return list(local)
    flat = torch.cat([tensor.flatten() for tensor in local])
    reduced = engine.fabric.all_reduce(flat, reduce_op="mean")
    assert isinstance(reduced, torch.Tensor)
    parts = torch.split(reduced, [tensor.numel() for tensor in local])
    return [part.view(tensor.shape) for part, tensor in zip(parts, local, strict=True)]
