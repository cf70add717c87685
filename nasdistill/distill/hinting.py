"""Hint training: a student's lower half learns to predict a teacher's layer; what lies above is never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.objectives.hints import HintLoss, Hints
from nasdistill.distill.taps import INPUT
from nasdistill.distill.teacher import FrozenTeacher, Teacher
from nasdistill.errors import UserError
from nasdistill.models.inspection import blank_image
from nasdistill.training.batches import Batch, Batches
from nasdistill.training.history import VALIDATION_LOSS
from nasdistill.training.modes import in_evaluation_mode
from nasdistill.training.tasks import Task

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine


class LowerHalf(nn.Module):
    """A network that ends at one of its points: what lies above is not run.

    Args:
        network: any module.
        point: what this network puts out, as `Taps` spells it.
    """

    def __init__(self, network: nn.Module, point: str) -> None:
        super().__init__()
        self.network = network
        self.point = point

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """What there is at the point, of images [N, C, H, W]."""

        def leave_before(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            raise _Reached(inputs[0])

        def leave(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            raise _Reached(output)

        module = self.network.get_submodule(self.point.removesuffix(INPUT))
        before = self.point.endswith(INPUT)
        handle = module.register_forward_pre_hook(leave_before) if before else module.register_forward_hook(leave)
        try:
            self.network(images)
        except _Reached as reached:
            return reached.output
        finally:
            handle.remove()
        raise UserError(f"the module of {self.point!r} takes no part in its network's forward pass")


class _Reached(Exception):
    """Leaves a forward pass with the output that was asked for."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


class HintTraining(Task):
    """The first stage of FitNets: the student's layers up to the guided one, and the regressor, learn the hint.

    What lies above the guided layer has no gradients, and no images pass through it: weights and batch-norm statistics
    there stay as they are. The teacher teaches as in `Distillation`: a frozen copy beside the task, not part of it.

    Args:
        network: the student.
        shape: channels, height and width of the images.
        normalisation: of the images; None where it is not known.

    Raises:
        UserError: the hints do not apply to these networks.

    Source: Romero et al., FitNets: Hints for Thin Deep Nets (2015), section 2.3, stage 1.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: Teacher,
        hints: Hints,
        shape: Shape,
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__(network)
        loss = hints.bind(network, teacher.network, shape).loss
        assert isinstance(loss, HintLoss)
        self.learned = loss
        self._point, hint = loss.pair
        ending = Teacher(LowerHalf(teacher.network, hint), teacher.normalisation)
        self._teacher = FrozenTeacher(ending, shape, (), normalisation)
        self._freeze_above(shape)

    def _freeze_above(self, shape: Shape) -> None:
        """So that neither an optimiser nor several processes wait for gradients that never come."""
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        with in_evaluation_mode(self.network):
            guided = self._guided(self.network, blank_image(self.network, shape))
        reached = torch.autograd.grad(guided.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, reached, strict=True):
            parameter.requires_grad_(gradient is not None)

    def _guided(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        # Made anew each time: a module kept here would enter the student's weights into checkpoints twice.
        guided: torch.Tensor = LowerHalf(network, self._point)(images)
        return guided

    def _hint(self, images: torch.Tensor) -> torch.Tensor:
        """The teacher as it stands here ends with the hint, so that is what it puts out."""
        return self._teacher(images).logits

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"hints": self.learned.between(self._guided(self.network, batch.images), self._hint(batch.images))}

    def score(self, network: nn.Module, validation: Batches, test: Batches, engine: Engine) -> dict[str, float]:
        """The hint loss of the validation images: what the untrained upper half would make of them says nothing."""
        engine.broadcast_buffers(network)
        total = torch.zeros((), dtype=torch.float64)
        with in_evaluation_mode(network), torch.inference_mode(), engine.autocast():
            for batch in validation.epoch(0):
                loss = self.learned.between(self._guided(network, batch.images), self._hint(batch.images))
                total += float(loss) * len(batch.labels)
        return {VALIDATION_LOSS: float(engine.broadcast(total)) / validation.samples}

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Device, precision and memory format: the teacher goes along."""
        self._teacher.apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
