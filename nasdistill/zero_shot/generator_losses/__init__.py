"""Generator losses: what the generator of zero-shot transfer is asked to minimise, as a weighted list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.distill.objectives import Outputs
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdistill.data.base import Shape


@dataclass(frozen=True)
class Pseudo:
    """A batch of pseudo-images and the networks' outputs for them; all tensors belong to the generator's graph.

    Attributes:
        images: [N, C, H, W], normalised as the teacher reads them.
        targets: int64, [N], classes drawn evenly for this pseudo-batch, for losses that want images of given classes.
        student: the student's logits, [N, classes]; None where no loss of the list asks for them.
        teacher: its outputs: logits and the features that the loss asked for. Of several teachers: those of their
            ensemble, for a loss that reads no features.
        ask: the same outputs for other images, [N, C, H, W], such as crops of these.
    """

    images: torch.Tensor
    targets: torch.Tensor
    student: torch.Tensor | None
    teacher: Outputs
    ask: Callable[[torch.Tensor], Outputs] | None = None


@runtime_checkable
class Remembering(Protocol):
    """A loss, as a module, that remembers something of each pseudo-batch."""

    def remember(self) -> None:
        """Take in what it saw last: the generator's steps on a pseudo-batch are over."""
        ...


@dataclass(frozen=True)
class GeneratorTerm:
    """A generator loss bound to one teacher.

    Attributes:
        loss: the unweighted loss, a scalar. One that remembers tensors is a module, whose buffers move with the
            generator; its parameters learn as the generator's do. See `Remembering` too.
        teacher_points: points in the teacher whose tensors `loss` reads, see `nasdistill.distill.taps`.
    """

    loss: Callable[[Pseudo], torch.Tensor]
    teacher_points: tuple[str, ...] = ()


class GeneratorLoss(Component):
    """Base of all generator losses. One on images and logits defines `loss`; one that reads features, `bind`."""

    asks_student: ClassVar[bool] = False
    """Whether it reads the student's outputs, so that gradients go through the student too."""

    asks_classes: ClassVar[bool] = False
    """Whether it asks for images of the classes that were drawn, `Pseudo.targets`."""

    weight: float = Field(1.0, ge=0, description="what this term is multiplied by in the sum")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.weight:
            yield "weight", "it is 0, so that the loss is left out"

    def bind(self, teacher: nn.Module, shape: Shape) -> GeneratorTerm:
        """Fit this loss to a teacher, before transfer. With several teachers it is called for each.

        Args:
            shape: channels, height and width of the pseudo-images.

        Raises:
            UserError: the loss does not apply to this teacher.
        """
        return GeneratorTerm(self.loss)

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        """The unweighted loss, a scalar."""
        raise NotImplementedError(type(self).__name__)


GENERATOR_LOSSES: Registry[GeneratorLoss] = Registry(
    "generator-losses", GeneratorLoss, "nasdistill.zero_shot.generator_losses"
)
