"""The generator of zero-shot transfer, and its like for waveforms: a vector, a small map, and a larger one twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator, model_validator
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, UserError
from nasdistill.models.limits import require_waveforms
from nasdistill.models.text import Embedding
from nasdistill.zero_shot.generators import GENERATORS, Generator


@GENERATORS.register("convolutional")
class Convolutional(Generator):
    """A linear layer to a map of a quarter of the image's size, then convolutions between which the map grows.

    The first two convolutions are followed by batch norm and leaky ReLU. There is no tanh by default: images lie in
    normalised space, and the batch norm behind the last convolution keeps them there. 1,051,145 parameters for 3x32x32
    images.
    """

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), released code"

    latents: int = Field(100, gt=0, description="numbers that each image is made from")
    channels: int = Field(128, gt=1, description="of the first two maps; the third has half as many")
    slope: float = Field(0.2, ge=0, description="of leaky ReLU below 0")
    last_affine: bool = Field(
        True, description="let the last batch norm learn scale and shift; an earlier release of the code did not"
    )
    tanh: bool = Field(
        False, description="squash values by tanh before the last batch norm, as the generators of DAFL and DFAD do"
    )
    spectral_norm: bool = Field(
        False,
        description="divide the weights of the linear layer and of all convolutions by their largest singular "
        "value (Miyato et al. 2018)",
    )
    sigmoid: bool = Field(
        False,
        description="in place of the last batch norm squash values to pixels from black to white, as the generators of "
        "CMI, Fast and NAYER do; needs a teacher whose normalisation is known",
    )

    @model_validator(mode="after")
    def _one_end(self) -> Convolutional:
        for name in self.differs("tanh", "last_affine") if self.sigmoid else ():
            raise SpecError("a generator with a sigmoid ends with it, and has no last batch norm", (name,))
        return self

    @property
    def makes_pixels(self) -> bool:
        return self.sigmoid

    def latent(self, shape: Shape) -> int:
        return self.latents

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        return self._layers(self.latents, shape)

    def _layers(self, numbers: int, shape: Shape) -> nn.Module:
        """From so many numbers of each image to images of this shape."""
        network = ConvolutionalGenerator(
            numbers,
            self.channels,
            growing_sizes(shape),
            shape[0],
            self.slope,
            kernel=(3, 3),
            tanh=self.tanh,
            last_affine=self.last_affine,
            sigmoid=self.sigmoid,
        )
        if self.spectral_norm:
            for module in list(network.modules()):
                if isinstance(module, nn.Linear | nn.Conv2d):
                    nn.utils.parametrizations.spectral_norm(module)
        return network


@GENERATORS.register("waveform")
class Waveform(Generator):
    """The layers of `convolutional` along time alone, for shapes of channels x 1 x samples.

    A linear layer makes a map of a sixteenth of the length; before each of the first two convolutions it becomes four
    times as long.
    """

    source: ClassVar[str] = (
        "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), for the layers; "
        "Donahue, McAuley, Puckette, Adversarial Audio Synthesis (2019), for a factor of 4 and kernels of 25"
    )

    latents: int = Field(100, gt=0, description="numbers that each waveform is made from")
    channels: int = Field(128, gt=1, description="of the first two maps; the third has half as many")
    kernel: int = Field(25, gt=0, description="samples that a convolution reads, an odd number")
    slope: float = Field(0.2, ge=0, description="of leaky ReLU below 0")

    @field_validator("kernel")
    @classmethod
    def _has_a_middle(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise SpecError(f"a kernel of {kernel} has no middle; {kernel - 1} and {kernel + 1} have one")
        return kernel

    def latent(self, shape: Shape) -> int:
        return self.latents

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        require_waveforms("generator of waveforms", shape, shortest=1)
        middle = -(-shape[2] // 4)
        return ConvolutionalGenerator(
            self.latents,
            self.channels,
            [(1, -(-middle // 4)), (1, middle), (1, shape[2])],
            shape[0],
            self.slope,
            kernel=(1, self.kernel),
        )


@GENERATORS.register("embeddings")
class Embeddings(Generator):
    """Embeddings in place of tokens: the layers of `convolutional` along the text alone, for networks that read texts.

    They are embeddings of the teacher's, so the student takes its table of tokens and keeps it: no gradient of what is
    made here ever reaches a table. Both have embeddings of `width` numbers, which each may bring to fewer by a
    `projection` of its own.
    """

    source: ClassVar[str] = (
        "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), for the layers; "
        "Ma et al., Adversarial Self-Supervised Data-Free Distillation for Text Classification (2020), for embeddings "
        "in place of tokens"
    )

    makes_embeddings: ClassVar[bool] = True

    width: int = Field(100, gt=1, le=65_536, description="numbers of an embedding, as many as the networks' have")
    latents: int = Field(100, gt=0, description="numbers that each text is made from")
    channels: int = Field(128, gt=1, description="of the first two maps; the third has half as many")
    slope: float = Field(0.2, ge=0, description="of leaky ReLU below 0")

    def latent(self, shape: Shape) -> int:
        return self.latents

    def share(self, student: nn.Module, teachers: Sequence[nn.Module]) -> None:
        if len(teachers) > 1:
            raise UserError(f"embeddings are those of one teacher, and here are {len(teachers)}")
        tables = []
        for who, network in (("student", student), ("teacher", teachers[0])):
            embedding = getattr(network, "embedding", None)
            if not isinstance(embedding, Embedding):
                raise UserError(f"embeddings are read by networks for texts such as text-cnn, and the {who} is none")
            tables.append(embedding.table)
            if embedding.table.embedding_dim != self.width:
                raise SpecError(
                    f"the {who}'s embeddings have {embedding.table.embedding_dim} numbers, not {self.width}; teacher, "
                    "student and generator share them",
                    ("width",),
                )
        tables[0].load_state_dict(tables[1].state_dict())
        tables[0].requires_grad_(False)

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        return ConvolutionalGenerator(
            self.latents,
            self.channels,
            growing_sizes(shape),
            self.width,
            self.slope,
            kernel=(1, 3),
        )


def growing_sizes(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of three maps: a quarter of the image's, half of them, and the image's own, rounded up."""
    return [(-(-shape[1] // by), -(-shape[2] // by)) for by in (4, 2, 1)]


class ConvolutionalGenerator(nn.Sequential):
    """Linear, BN, up, conv, BN, leaky ReLU, up, conv, BN, leaky ReLU, conv, (tanh,) BN; or a sigmoid in place of these.

    Maps are enlarged to the nearest neighbour.

    Args:
        channels: of the first two maps; the third has half as many.
        sizes: height and width of the first map, of the second, and of the third, which is the image's.
        colours: channels of the image.
        kernel: height and width, odd numbers.
    """

    def __init__(
        self,
        latents: int,
        channels: int,
        sizes: Sequence[tuple[int, int]],
        colours: int,
        slope: float,
        kernel: tuple[int, int],
        tanh: bool = False,
        last_affine: bool = True,
        sigmoid: bool = False,
    ) -> None:
        first, middle, last = sizes
        half = channels // 2
        padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(
            nn.Linear(latents, channels * first[0] * first[1]),
            nn.Unflatten(1, (channels, *first)),
            nn.BatchNorm2d(channels),
            nn.Upsample(middle),
            nn.Conv2d(channels, channels, kernel, padding=padding),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(slope),
            nn.Upsample(last),
            nn.Conv2d(channels, half, kernel, padding=padding),
            nn.BatchNorm2d(half),
            nn.LeakyReLU(slope),
            nn.Conv2d(half, colours, kernel, padding=padding),
            *([nn.Tanh()] if tanh else []),
            nn.Sigmoid() if sigmoid else nn.BatchNorm2d(colours, affine=last_affine),
        )
