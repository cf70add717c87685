"""What a model is: plain data that builds a network for any input shape and number of classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from nasdistill.artifacts import MANIFEST, NETWORK_FILES, open_artifact
from nasdistill.component import LARGEST
from nasdistill.data.base import Normalisation, Resize, Shape, Size
from nasdistill.errors import DamagedFile, UserError, written_at
from nasdistill.registry import Component, ComponentOf, Registry, build, registry
from nasdistill.storage import read_json, sha256_of_json, write_bytes, write_json
from nasdistill.words import whole

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data.base import Data
    from nasdistill.models.genotypes import CellString, Genotype

SPEC, WEIGHTS = NETWORK_FILES


class Model(Component):
    """Base of all models.

    The network that `build` returns maps float images [N, C, H, W] to logits [N, classes]. It may declare
    `feature_points: tuple[str, ...]`, the module paths whose outputs attention transfer reads by default;
    `forward_with_auxiliary(images) -> (logits, auxiliary_logits)` if it has an auxiliary head;
    `distillation_point: str`, the module that puts out those auxiliary logits, if they are a distillation token's, with
    which the network answers too; and `drop_path: float`, the probability that training raises over its course.

    Texts are images of 1x1xLENGTH whose values are the numbers of tokens.
    """

    reads_texts: ClassVar[bool] = False
    """Whether its network can read texts."""

    binary: Literal["weights", "xnor"] | None = Field(
        None,
        description="one bit for each weight (weights), or for each weight and activation (xnor), "
        "in all layers but the first and the last",
    )
    size: Size | None = Field(
        None,
        description="height and width that it reads, e.g. 64x64: it resizes the data set's images itself; short for "
        "`{name: NAME, size: 64}` is `NAME@64`; by default it reads them as they are",
    )

    def spec(self) -> dict[str, Any]:
        """As for all components; `binary` and `size` stand only where they are given."""
        return {
            name: value for name, value in super().spec().items() if name not in ("binary", "size") or value is not None
        }

    def for_vocabulary(self, size: int) -> Model:
        """This model for texts of a vocabulary of so many tokens.

        Raises:
            UserError: it reads images alone.
        """
        if not self.reads_texts:
            raise UserError(f"the model {self.registered_name!r} reads images, and the data set holds texts")
        return self

    def reads(self, shape: Shape) -> Shape:
        """Of images [C, H, W] as its network computes with them: with its own height and width if it resizes them."""
        return shape if self.size is None else (shape[0], *self.size)

    def for_normalisation(self, normalisation: Normalisation) -> Model:
        """This model for images that are normalised so: a pretrained one turns them into its own."""
        return self

    def pretrained_content(self) -> str | None:
        """What identifies the trained weights that its networks start from; None where all are drawn."""
        return None

    def cell_genotype(self) -> Genotype | CellString | None:
        """The cells that it is made of, where it is."""
        return None

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network with freshly drawn weights from torch's global generator, real even where `binary` is set.

        Raises:
            UserError: the model does not exist for this shape.
        """
        raise NotImplementedError(type(self).__name__)


class _Models(Registry[Model]):
    def parse(self, value: Any) -> Model:
        """As for all kinds; `NAME@SIZE` is NAME with the option `size`."""
        if isinstance(value, str) and "@" in value:
            name, _, size = value.rpartition("@")
            value = {"name": name, "size": size}
        return super().parse(value)


MODELS: Registry[Model] = _Models("models", Model, "nasdistill.models")


Side = Annotated[int, Field(ge=0, le=LARGEST)]


def for_texts(model: Model, vocabulary: tuple[str, ...] | None) -> Model:
    """The model for texts of this vocabulary, or as it is, where there is none."""
    return model if vocabulary is None else model.for_vocabulary(len(vocabulary))


class NetworkSpec(BaseModel):
    """The content of `spec.json`: all that is needed to rebuild a network and to feed it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model: Annotated[Any, ComponentOf("models")] = Field(description="the model")
    shape: tuple[Side, Side, Side] = Field(description="channels, height, width of an image")
    classes: int = Field(gt=1, le=LARGEST, description="number of classes")
    labels: tuple[str, ...] | None = Field(None, description="names of the classes, in order")
    normalisation: Normalisation | None = Field(None, description="what images must be normalised with")
    vocabulary: tuple[str, ...] | None = Field(None, description="the tokens of texts, by their numbers")
    resize: Resize = Field("squash", description="how images of another side ratio come to their size")
    first_size: tuple[Side, Side] | None = Field(
        None, description="height and width that pictures are brought to before those of `shape`, as in training"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_rare(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = serialise(self)
        if self.vocabulary is None:
            del plain["vocabulary"]
        if self.resize == "squash":
            del plain["resize"]
        if self.first_size is None:
            del plain["first_size"]
        return plain

    @property
    def reads(self) -> Shape:
        """Channels, height and width of the images as the network computes with them, see `Model.reads`."""
        found: Shape = self.model.reads(self.shape)
        return found

    def as_read(self) -> NetworkSpec:
        """Of the network for images of the size that it computes with, which no longer resizes them itself."""
        if self.reads == self.shape:
            return self
        return self.model_copy(update={"shape": self.reads, "first_size": self.shape[1:]})

    @property
    def tokens(self) -> int:
        """How many there are of texts, else 0."""
        return len(self.vocabulary or ())

    @classmethod
    def for_data(cls, model: Any, data: Data) -> NetworkSpec:
        """A model for the images and classes of a data set.

        Args:
            model: or its name, shorthand, or mapping.

        Raises:
            SpecError: there is no such model, or it cannot read texts, which the data set holds.
        """
        vocabulary = data.words.vocabulary if data.words else None
        return cls(
            model=for_texts(MODELS.parse(model), vocabulary).for_normalisation(data.normalisation),
            shape=data.shape,
            classes=len(data.classes),
            labels=data.classes,
            normalisation=data.normalisation,
            resize=data.resize,
            vocabulary=vocabulary,
        )

    def drawn(self) -> NetworkSpec:
        """The spec as it is written: of the same network, without pretrained weights."""
        pretrained = self.model.pretrained_content() is not None
        return build(NetworkSpec, self.model_dump(mode="json")) if pretrained else self

    def build(self) -> nn.Module:
        """The network with freshly drawn weights, made binary and to read at a size where the model says so.

        Raises:
            UserError: the model does not exist for this shape, has no layer that could be binary, or builds no module.
        """
        from torch import nn

        from nasdistill.models.memory_limit import within_memory
        from nasdistill.training.resizing import read_at

        if self.model.size is not None and self.shape[1] == 1:
            raise UserError("`size` is for images; texts and waveforms have none")
        network = within_memory(lambda: self.model.build(self.reads, self.classes))
        if not isinstance(network, nn.Module):
            raise UserError(
                f"the model {self.model.registered_name!r} ({written_at(type(self.model))}) must build a torch module, "
                f"not {type(network).__name__}"
            )
        if self.model.binary is not None:
            from nasdistill.models.binarising import binarise

            binarise(network, self.reads, self.model.binary)
        return network if self.model.size is None else read_at(network, self.model.size)


@dataclass(frozen=True, repr=False)
class Network:
    """A network in memory.

    Attributes:
        module: maps images [N, C, H, W], normalised as the spec says, to logits [N, classes].
        trained: whether its weights count; where they do not, each training draws its own by its seed.
    """

    spec: NetworkSpec
    module: nn.Module
    trained: bool = True

    def __repr__(self) -> str:
        parameters = whole(sum(parameter.numel() for parameter in self.module.parameters()))
        shape = "x".join(map(str, self.spec.shape))
        images = f"images of {shape} in {self.spec.classes} classes"
        state = "trained" if self.trained else "not trained"
        return f"{self.spec.model.registered_name} for {images}: {parameters} parameters, {state}"

    @property
    def content(self) -> str:
        """A hash of the spec and, if they count, of the weights."""
        weights = hashlib.sha256(_weights(self.module)).hexdigest() if self.trained else None
        return sha256_of_json([self.spec.model_dump(mode="json"), weights])


def save_network(folder: Path, spec: NetworkSpec, network: nn.Module | None) -> None:
    """Write `spec.json` and, for a trained network, `weights.safetensors`."""
    write_json(folder / SPEC, spec.model_dump(mode="json"))
    if network is not None:
        write_bytes(folder / WEIGHTS, _weights(network))


def _weights(network: nn.Module) -> bytes:
    from safetensors.torch import save

    # copies, as layers may share a tensor, which is then stored for each of them
    state = {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
    return save({name: value.contiguous() for name, value in state.items()})


def load_spec(folder: Path) -> NetworkSpec:
    """Read `spec.json`; names in it resolve in the registry only, nothing else is imported.

    Raises:
        UserError: there is none, or it names what is unknown.
        DamagedFile: it is not what was written.
    """
    path = folder / SPEC
    if not path.is_file():
        raise UserError(f"{folder} holds no network: {SPEC} is missing")
    if (folder / MANIFEST).is_file():  # else a stage is still at work in the folder
        open_artifact(folder, verify=False).verify(SPEC)
    content = read_json(path)
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} is damaged: it is not a mapping")
    try:
        return build(NetworkSpec, content)
    except UserError as error:
        raise UserError(f"{path}: {error}{_lacking(folder)}") from None


def _lacking(folder: Path) -> str:
    """The plug-ins that the artifact in `folder` was made with and that are unknown here, to follow an error."""
    try:
        made_with = open_artifact(folder, verify=False).manifest.provenance.get("plugins", {})
    except UserError:
        return ""
    known = {f"{kind}/{name}" for kind in ("models", "operations") for name in registry(kind).names()}
    how = {each["how"] for name, each in made_with.items() if isinstance(each, dict) and name not in known}
    return f"; it was made with {', '.join(sorted(how))}" if how else ""


def load_network(folder: Path) -> tuple[NetworkSpec, nn.Module]:
    """Rebuild a trained network, in evaluation mode, on the CPU.

    Raises:
        UserError: the folder holds no weights.
        DamagedFile: the weights do not fit the spec.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    spec = load_spec(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder} holds an architecture without weights: {WEIGHTS} is missing")
    network = spec.build()
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        # torch tells all tensors that do not fit, a line each, below a title
        first = ([line.strip() for line in str(error).splitlines()[1:]] or [str(error)])[0]
        raise DamagedFile(f"{path} does not fit its {SPEC}: {first}") from None
    return spec, network.eval()
