"""A trained network for other images and classes: what of its weights stays, and what turns images into its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS, Model, NetworkSpec
from nasdistill.models.inspection import blank_image
from nasdistill.models.portable import declare_points, drop_auxiliary
from nasdistill.models.renormalisation import renormalisation
from nasdistill.registry import ComponentOf
from nasdistill.training.modes import in_evaluation_mode

ROUNDING = 1e-4
"""By how much of its largest value an output may differ where columns of a product of matrices are in another order."""


@MODELS.register("adapted")
class Adapted(Model):
    """A network that reads images of another normalisation, or grey ones for colour and the reverse, as its own.

    The stage `adapt` makes it of a trained one. Auxiliary head and drop path stay behind, as in an ensemble.
    """

    reads_texts: ClassVar[bool] = True

    source: ClassVar[str] = "x' = (x*s + m - m')/s', exact at the padded border too, where folded weights are not"

    model: Annotated[Any, ComponentOf("models")] = Field(description="the network")
    own: Normalisation = Field(description="what the images that it was trained on were normalised with")
    normalisation: Normalisation = Field(description="what the images that it reads here are normalised with")

    def reads(self, shape: Shape) -> Shape:
        inside: Shape = self.model.reads(super().reads(shape))
        return shape[0], *inside[1:]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        own_shape = (len(self.own.mean), *shape[1:])
        return self.of(NetworkSpec(model=self.model, shape=own_shape, classes=classes).build())

    def pretrained_content(self) -> str | None:
        content: str | None = self.model.pretrained_content()
        return content

    def of(self, network: nn.Module) -> nn.Module:
        """`network` behind the change of normalisation; it becomes a part, less its auxiliary head."""
        return AdaptedNetwork(renormalisation(self.normalisation, self.own), network)


class AdaptedNetwork(nn.Module):
    """The feature points are those of the network inside, where it declares them."""

    def __init__(self, reading: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.reading = reading
        self.network = network
        drop_auxiliary(network)
        declare_points(self, network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self.reading(images))
        return logits


def refitted(
    spec: NetworkSpec, network: nn.Module, size: tuple[int, int], classes: int, new_head: bool
) -> tuple[NetworkSpec, nn.Module, list[str]]:
    """The network rebuilt for images of another size and other classes, with the weights that it has.

    Its head is all tensors whose shape depends on the number of classes: every model has one, and none declares it.

    Args:
        spec: of `network`.
        size: height and width of the images.
        new_head: draw the head by torch's global generator; else it keeps its weights, too.

    Returns:
        its spec, the network, and the names of the tensors that were drawn.

    Raises:
        UserError: a tensor that stays has another shape at this size.
    """
    fitted = spec.model_copy(update={"shape": (spec.shape[0], *size), "classes": classes})
    found = fitted.build()
    theirs, ours = network.state_dict(), found.state_dict()
    head = head_of(fitted) if new_head else {}
    for name, value in ours.items():
        if name not in head and (name not in theirs or theirs[name].shape != value.shape):
            before = list(theirs[name].shape) if name in theirs else "missing"
            raise UserError(
                f"{name} is {before} at {spec.shape[1]}x{spec.shape[2]} pixels and {list(value.shape)} at "
                f"{size[0]}x{size[1]}: the weights of this {spec.model.registered_name} belong to one size of image"
            )
    found.load_state_dict({name: value if name in head else theirs[name] for name, value in ours.items()})
    return fitted, found.eval(), sorted(head)


def head_of(spec: NetworkSpec) -> dict[str, list[int]]:
    """The tensors whose shape depends on the number of classes, each with the dimensions that do."""
    with torch.random.fork_rng(devices=[]):
        one, other = (spec.model_copy(update={"classes": spec.classes + more}).build().state_dict() for more in (0, 1))
    return {
        name: [place for place, size in enumerate(value.shape) if size != other[name].shape[place]]
        for name, value in one.items()
        if other[name].shape != value.shape
    }


def with_outputs(spec: NetworkSpec, network: nn.Module, outputs: Sequence[int]) -> tuple[NetworkSpec, nn.Module]:
    """A network whose output k is output `outputs[k]` of the given one: its head's weights in another order, or fewer.

    The head is as in `refitted`. Auxiliary heads and heads inside an ensemble go along; the network keeps its form, and
    what reads inside it need not know.

    Raises:
        UserError: the model cannot be built anew, or its head has another form.
    """
    picked = list(outputs)
    fitted = spec.model_copy(
        update={"classes": len(picked), "labels": spec.labels and tuple(spec.labels[each] for each in picked)}
    )
    with torch.random.fork_rng(devices=[]):
        head, found = head_of(spec), fitted.build().eval()
        images = torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0))
    state = dict(network.state_dict())
    wrong = UserError(f"the head of this {spec.model.registered_name} has no order of classes that could be changed")
    for name, places in head.items():
        for place in places:
            if state[name].shape[place] != spec.classes:
                raise wrong
            state[name] = state[name].index_select(place, torch.tensor(picked, device=state[name].device))
    try:
        found.load_state_dict(state)
    except RuntimeError:
        raise wrong from None
    with in_evaluation_mode(network), torch.no_grad():
        before, after = (each(images.to(blank_image(each, spec.shape))) for each in (network, found))
    if (before[:, picked] - after).abs().max() > ROUNDING * before.abs().max():
        raise wrong
    return fitted, found
