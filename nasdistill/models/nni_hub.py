"""Networks of nni's model hub: what is left of one of its spaces when every choice is made."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import UserError, unknown
from nasdistill.models.base import MODELS, Model
from nasdistill.models.inspection import feature_points
from nasdistill.models.limits import require_images
from nasdistill.nni_bridge import nni_hub

if TYPE_CHECKING:
    import torch

HubSpace = Literal[
    "DARTS",
    "ENAS",
    "NASNet",
    "AmoebaNet",
    "PNAS",
    "MobileNetV3Space",
    "ShuffleNetSpace",
    "ProxylessNAS",
    "NasBench201",
]
"""Classes of `nni.nas.hub.pytorch`; no other name is ever looked up."""

_OF_CELLS = get_args(HubSpace)[:5]
"""The spaces that are built for ten classes, whatever they are asked."""


@MODELS.register("nni")
class NniNetwork(Model):
    """A network of nni's hub with fresh weights; `nasdistill search` writes it down for what it finds in `nni:...`.

    No weights of the hub are ever loaded. Grey images are repeated into the three channels that its networks read.
    """

    source: ClassVar[str] = "nni 3.0, nni.nas.hub.pytorch"

    space: HubSpace = Field(description="class of the space in nni's hub")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="what nni builds the space with, e.g. {width: 16, num_cells: 8}"
    )
    choices: dict[str, Any] = Field(description="by nni's label the alternative that was chosen")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        import torch

        require_images(f"network of nni's {self.space}", shape)
        nni_hub(f"the model 'nni' of {self.space}")
        from nni.nas.nn.pytorch import model_context

        with torch.device("meta"):
            wanted = alternatives(hub_space(self.space, self.arguments, classes))
        _refuse_wrong_choices(self.choices, wanted)
        with model_context({label: self.choices[label] for label in wanted}):
            body = hub_space(self.space, self.arguments, classes)
        network = ThreeChannels(body, shape)
        if self.space in _OF_CELLS:
            network.feature_points = _last_cells(body)
            return network
        try:
            network.feature_points = feature_points(network, shape)
        except (RuntimeError, ValueError) as error:
            images, why = "x".join(map(str, shape)), str(error).splitlines()[0]
            raise UserError(
                f"this network of nni's {self.space} does not exist for images of {images}: {why}"
            ) from None
        return network


class ThreeChannels(nn.Module):
    """A network that reads three channels, for images that have one or three.

    Args:
        body: from [N, 3, H, W].

    Raises:
        UserError: the images have another number of channels.
    """

    feature_points: tuple[str, ...] | None = None

    def __init__(self, body: nn.Module, shape: Shape) -> None:
        if shape[0] not in (1, 3):
            raise UserError(
                f"nni's networks read images of three channels, or grey ones; these have {shape[0]} channels"
            )
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(images.expand(-1, 3, -1, -1))
        return logits


def hub_space(name: HubSpace, arguments: Mapping[str, Any], classes: int) -> Any:
    """One of nni's spaces, a `ModelSpace`; within nni's `model_context` the network that the context's choices make.

    Raises:
        UserError: nni is not installed, or does not take the arguments.
    """
    hub = nni_hub(f"nni's space {name}")
    known = {"dataset": "cifar"} if name in _OF_CELLS else {"num_labels": classes}
    try:
        space = getattr(hub, name)(**arguments, **known)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"nni does not build {name} with {dict(arguments)}: {error or 'an assertion failed'}") from None
    if name in _OF_CELLS:
        space.classifier = nn.Linear(space.classifier.in_features, classes)
    return space


def alternatives(space: Any) -> dict[str, tuple[Any, ...]]:
    """By nni's label the alternatives of a `ModelSpace`, plain data; a choice of n out of m lists the combinations."""
    from nni.mutable import Categorical

    return {
        label: tuple(mutable.values)
        if isinstance(mutable, Categorical)
        else tuple(map(list, combinations(mutable.values, mutable.n_chosen)))
        for label, mutable in space.simplify().items()
    }


class _Handed(nn.Module):
    """What a cell hands to the next: the output of the one before and its own, which a module of its own shows."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Identity()

    def forward(self, output: torch.Tensor, before: list[torch.Tensor]) -> list[torch.Tensor]:
        return [before[-1], self.output(output)]


def _last_cells(body: Any) -> tuple[str, ...]:
    """Where the outputs of the last cells of each resolution show: no module of nni's returns one alone."""
    for stage in body.stages:
        for cell in stage:
            cell.postprocessor = _Handed()
    return tuple(f"body.stages.{at}.{len(stage) - 1}.postprocessor.output" for at, stage in enumerate(body.stages))


def _refuse_wrong_choices(choices: Mapping[str, Any], wanted: Mapping[str, tuple[Any, ...]]) -> None:
    if missing := [label for label in wanted if label not in choices]:
        raise UserError(f"choices: {missing[0]!r} is not chosen ({len(missing)} of {len(wanted)} are missing)")
    for label, chosen in choices.items():
        if label not in wanted:
            raise UserError(f"choices: {unknown('label', label, wanted)}")
        if chosen not in wanted[label]:
            raise UserError(f"choices: {label!r} is one of {list(wanted[label])}, got {chosen!r}")
