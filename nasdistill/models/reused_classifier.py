"""A student that answers with its teacher's classifier: its own network, a projector, and that classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS, Model, NetworkSpec
from nasdistill.models.inspection import blank_image
from nasdistill.models.portable import declare_points, drop_auxiliary
from nasdistill.registry import ComponentOf
from nasdistill.training.modes import in_evaluation_mode


@MODELS.register("reused-classifier")
class ReusedClassifier(Model):
    """Another model's network up to its classifier, a projector to a teacher's embedding, and the teacher's classifier.

    The objective `simkd` puts that one there. The projector is the published one for vectors, where its 3x3 convolution
    is a matrix. An auxiliary head of the model stays behind.
    """

    source: ClassVar[str] = (
        "Chen et al. 2022, Knowledge Distillation with the Reused Teacher Classifier (arXiv:2203.14001), section 3, "
        "and its released code"
    )

    model: Annotated[Any, ComponentOf("models")] = Field(description="the model, whose own classifier is left out")
    features: int = Field(gt=0, description="values of the teacher's embedding, which its classifier reads")
    factor: int = Field(2, gt=0, description="`features` over the hidden units of the projector")
    rectified: bool = Field(
        True, description="whether the projector ends in a rectifier, as embeddings have no negative values that do too"
    )

    def reads(self, shape: Shape) -> Shape:
        inside: Shape = self.model.reads(super().reads(shape))
        return inside

    def for_normalisation(self, normalisation: Normalisation) -> Model:
        return self.model_copy(update={"model": self.model.for_normalisation(normalisation)})

    def pretrained_content(self) -> str | None:
        content: str | None = self.model.pretrained_content()
        return content

    def build(self, shape: Shape, classes: int) -> nn.Module:
        network = NetworkSpec(model=self.model, shape=shape, classes=classes).build()
        path = classifier_path(network, shape, f"model {self.model.registered_name!r}")
        own = network.get_submodule(path)
        assert isinstance(own, nn.Linear)
        network.set_submodule(path, nn.Identity())
        hidden = max(1, self.features // self.factor)
        projector = [*_projection(own.in_features, hidden), *_projection(hidden, hidden)]
        projector += _projection(hidden, self.features)[: None if self.rectified else -1]
        return ReusedClassifierNetwork(network, nn.Sequential(*projector), nn.Linear(self.features, classes))


def _projection(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]


class ReusedClassifierNetwork(nn.Module):
    """The feature points are those of the network inside, where it declares them."""

    def __init__(self, network: nn.Module, projector: nn.Sequential, classifier: nn.Linear) -> None:
        super().__init__()
        self.network = network
        self.projector = projector
        self.classifier = classifier
        drop_auxiliary(network)
        declare_points(self, network)
        if hasattr(network, "set_drop_path"):  # only where it is there, as training asks for it by name
            inside = cast(Any, network)
            self.drop_path, self.set_drop_path = inside.drop_path, inside.set_drop_path

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.projector(self.network(images)))
        return logits

    @property
    def is_rectified(self) -> bool:
        """Whether the projector gives no negative values."""
        return isinstance(self.projector[-1], nn.ReLU)

    @torch.no_grad()
    def reuse(self, classifier: nn.Linear) -> None:
        """Take on the weights of another classifier of the same shape, and train them no more."""
        self.classifier.weight.copy_(classifier.weight)
        self.classifier.bias.copy_(0 if classifier.bias is None else classifier.bias)
        self.classifier.requires_grad_(False)


def classifier_path(network: nn.Module, shape: Shape, whose: str) -> str:
    """The path of the linear layer whose outputs are a network's logits.

    Args:
        whose: names the network in the error.

    Raises:
        UserError: there is none: it ends in another layer, or averages several.
    """
    outputs: dict[str, torch.Tensor] = {}

    def keeping(path: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        return lambda _module, _inputs, output: outputs.update({path: output})

    layers = {path: part for path, part in network.named_modules() if isinstance(part, nn.Linear)}
    handles = [layer.register_forward_hook(keeping(path)) for path, layer in layers.items()]
    try:
        with in_evaluation_mode(network), torch.no_grad():
            logits = network(blank_image(network, shape))
    finally:
        for handle in handles:
            handle.remove()
    found = next((path for path, output in outputs.items() if output is logits), None)
    if found is None:
        raise UserError(f"the {whose} has no linear layer whose outputs are its logits")
    return found
