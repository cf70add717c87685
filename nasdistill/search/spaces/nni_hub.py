"""Spaces of nni's model hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.genotypes import Genotype
from nasdistill.models.limits import MOST_CELLS
from nasdistill.search.spaces import SPACES, SearchSpace
from nasdistill.search.spaces.darts_cells import CELLS

if TYPE_CHECKING:
    from nasdistill.models.nni_hub import HubSpace

Several = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


class NniSpace(SearchSpace):
    """Base of the spaces of nni's hub.

    Attributes:
        hub: the class in `nni.nas.hub.pytorch`.
    """

    hub: ClassVar[HubSpace]

    def arguments(self) -> dict[str, Any]:
        """What nni builds the space with, for the found network; plain data."""
        raise NotImplementedError(type(self).__name__)

    def arguments_while_searching(self) -> dict[str, Any]:
        return self.arguments()

    def choices_within_layers(self) -> str | None:
        """What is chosen but is no whole layer, in words, or None."""
        return None

    def build(self, classes: int) -> Any:
        """The space in the size of the search, with all its weights, as nni's `ModelSpace`.

        Raises:
            UserError: nni is not installed, or does not take the arguments.
        """
        from nasdistill.models.nni_hub import hub_space

        return hub_space(self.hub, self.arguments_while_searching(), classes)

    def choices(self, shape: Shape, classes: int) -> dict[str, tuple[Any, ...]]:
        """By nni's label the alternatives; that of a layer which a chosen depth leaves out is chosen in vain."""
        import torch

        from nasdistill.models.nni_hub import alternatives

        with torch.device("meta"):
            return alternatives(self.build(classes))

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": "nni", "space": self.hub, "arguments": self.arguments(), "choices": dict(chosen)}

    def proxy(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        arguments = self.arguments_while_searching()
        return {"name": "nni", "space": self.hub, "arguments": arguments, "choices": dict(chosen)}


class NniCells(NniSpace):
    """Base of nni's spaces of cells: nodes that add two operations, each on one earlier state."""

    search_channels: int = Field(16, gt=1, multiple_of=2, description="channels of the first cells while searching")
    search_cells: int = Field(8, ge=3, le=MOST_CELLS, description="cells while searching")
    channels: int = Field(36, gt=1, multiple_of=2, description="channels of the first cells of the found network")
    cells: int = Field(20, ge=3, le=MOST_CELLS, description="cells of the found network")

    def arguments(self) -> dict[str, Any]:
        return {"width": self.channels, "num_cells": self.cells}

    def arguments_while_searching(self) -> dict[str, Any]:
        return {"width": self.search_channels, "num_cells": self.search_cells}

    def choices_within_layers(self) -> str:
        return "the states that a cell's nodes read"


@SPACES.register("nni:darts")
class NniDarts(NniCells):
    """The cells of DARTS. What is found is our own model `darts`, the same network, which grows and needs no nni."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, as nni.nas.hub.pytorch.DARTS has it"
    hub: ClassVar[HubSpace] = "DARTS"

    auxiliary: bool = Field(False, description="whether the found network has a second classifier while it trains")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="drop-path probability of the found network at the end of its training"
    )

    def model(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        size = {"channels": self.channels, "cells": self.cells}
        return {**_darts(chosen), **size, "auxiliary": self.auxiliary, "drop_path": self.drop_path}

    def proxy(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return {**_darts(chosen), "channels": self.search_channels, "cells": self.search_cells}


def _darts(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Our model of the cells that nni's labels describe: nodes count from 2, as the states that they are."""
    normal, reduce = (
        tuple(
            tuple((chosen[f"{cell}/op_{node}_{edge}"], chosen[f"{cell}/input_{node}_{edge}"][0]) for edge in range(2))
            for node in range(2, 6)
        )
        for cell in CELLS
    )
    return {"name": "darts", "genotype": Genotype(normal=normal, reduce=reduce).model_dump(mode="json")}


@SPACES.register("nni:enas")
class NniEnas(NniCells):
    """Cells of five nodes that choose among five operations; nodes that no other reads are the output."""

    source: ClassVar[str] = "Pham et al. 2018, Efficient Neural Architecture Search (arXiv:1802.03268)"
    hub: ClassVar[HubSpace] = "ENAS"


@SPACES.register("nni:nasnet")
class NniNasNet(NniCells):
    """Cells of five nodes that choose among thirteen operations; nodes that no other reads are the output."""

    source: ClassVar[str] = "Zoph et al. 2018, Learning Transferable Architectures (arXiv:1707.07012)"
    hub: ClassVar[HubSpace] = "NASNet"


@SPACES.register("nni:amoeba")
class NniAmoeba(NniCells):
    """Cells of five nodes that choose among eight operations; nodes that no other reads are the output."""

    source: ClassVar[str] = "Real et al. 2019, Regularized Evolution for Image Classifiers (arXiv:1802.01548)"
    hub: ClassVar[HubSpace] = "AmoebaNet"


@SPACES.register("nni:pnas")
class NniPnas(NniCells):
    """Cells of five nodes that choose among eight operations; all nodes are the output."""

    source: ClassVar[str] = "Liu et al. 2018, Progressive Neural Architecture Search (arXiv:1712.00559)"
    hub: ClassVar[HubSpace] = "PNAS"


@SPACES.register("nni:mobilenet-v3")
class NniMobileNetV3(NniSpace):
    """Stages of inverted residual blocks: widths, depths, kernels, expansions, squeeze-and-excitation.

    The defaults are those for ImageNet, which halve the resolution five times. A list for stages has one value for the
    stem, one for each stage, and two for the head, unless it says otherwise.
    """

    source: ClassVar[str] = "Bender et al. 2020, Can Weight Sharing Outperform Random Architecture Search? TuNAS"
    hub: ClassVar[HubSpace] = "MobileNetV3Space"

    widths: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (16, 16, 16, 32, 64, 128, 256, 512, 1024), min_length=5, description="channels, which the multipliers multiply"
    )
    multipliers: Several = Field(
        (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0), description="choices of a stage's width, as a multiple of `widths`"
    )
    expansions: Several = Field((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), description="choices of a block's expansion")
    depth: tuple[Annotated[int, Field(gt=0, le=100)], Annotated[int, Field(gt=0, le=100)]] = Field(
        (1, 4), description="least and most blocks of a stage; the first stage has one"
    )
    strides: tuple[Literal[1, 2], ...] = Field((2, 1, 2, 2, 2, 1, 2, 1, 1), description="2 halves the resolution")
    activations: tuple[Literal["relu", "hswish", "swish"], ...] = Field(
        ("hswish", "relu", "relu", "relu", *("hswish",) * 5), description="activation functions"
    )
    squeeze_excite: tuple[Literal["none", "optional", "force"], ...] = Field(
        ("none", "none", "optional", "none", "optional", "optional"),
        description="of each stage alone, without stem and head: whether its blocks recalibrate their channels",
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="probability of dropping a feature before the classifier")

    @model_validator(mode="after")
    def _lists_fit(self) -> NniMobileNetV3:
        stages = len(self.widths) - 3
        for name, count in (("strides", stages + 3), ("activations", stages + 3), ("squeeze_excite", stages)):
            if len(getattr(self, name)) != count:
                raise SpecError(
                    f"{len(self.widths)} widths go with {count} {name}, got {len(getattr(self, name))}", (name,)
                )
        if self.depth[0] > self.depth[1]:
            raise SpecError(f"least and most blocks, got {self.depth[0]} and {self.depth[1]}", ("depth",))
        return self

    def arguments(self) -> dict[str, Any]:
        return {
            "base_widths": list(self.widths),
            "width_multipliers": list(self.multipliers),
            "expand_ratios": list(self.expansions),
            "depth_range": list(self.depth),
            "stride": list(self.strides),
            "activation": list(self.activations),
            "squeeze_excite": list(self.squeeze_excite),
            "dropout_rate": self.dropout,
        }

    def choices_within_layers(self) -> str:
        return "kernels and widths of layers"


@SPACES.register("nni:shufflenet")
class NniShuffleNet(NniSpace):
    """Twenty blocks that choose among four, of 64 to 640 channels; they halve the resolution five times."""

    source: ClassVar[str] = "Guo et al. 2020, Single Path One-Shot NAS with Uniform Sampling (arXiv:1904.00420)"
    hub: ClassVar[HubSpace] = "ShuffleNetSpace"

    widths: bool = Field(False, description="also choose each block's inner channels, 0.2 to 1.6 times the usual ones")

    def arguments(self) -> dict[str, Any]:
        return {"channel_search": self.widths}

    def choices_within_layers(self) -> str | None:
        return "widths of layers" if self.widths else None


@SPACES.register("nni:proxylessnas")
class NniProxylessNas(NniSpace):
    """Stages of up to four blocks that choose among three kernels and two expansions; the resolution falls to 1/32."""

    source: ClassVar[str] = "Cai et al. 2019, ProxylessNAS (arXiv:1812.00332)"
    hub: ClassVar[HubSpace] = "ProxylessNAS"

    widths: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (32, 16, 32, 40, 80, 96, 192, 320, 1280),
        min_length=9,
        max_length=9,
        description="channels of the stem, of each stage, and of the head, which the multiplier multiplies",
    )
    multiplier: float = Field(1.0, gt=0, description="multiplies all widths; they are multiples of 8 then")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a feature before the classifier")

    def arguments(self) -> dict[str, Any]:
        return {"base_widths": list(self.widths), "width_mult": self.multiplier, "dropout_rate": self.dropout}


@SPACES.register("nni:nasbench201")
class NniNasBench201(NniSpace):
    """Cells of six edges that choose among five operations, between residual blocks that halve the resolution twice."""

    source: ClassVar[str] = "Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326)"
    hub: ClassVar[HubSpace] = "NasBench201"

    search_channels: int = Field(16, gt=0, description="channels of the stem while searching")
    search_cells: int = Field(5, gt=0, le=MOST_CELLS, description="cells of each of the three stacks while searching")
    channels: int = Field(16, gt=0, description="channels of the stem of the found network")
    cells: int = Field(5, gt=0, le=MOST_CELLS, description="cells of each of the three stacks of the found network")

    def arguments(self) -> dict[str, Any]:
        return {"stem_out_channels": self.channels, "num_modules_per_stack": self.cells}

    def arguments_while_searching(self) -> dict[str, Any]:
        return {"stem_out_channels": self.search_channels, "num_modules_per_stack": self.search_cells}
