"""Networks that read an image as a grid of patches: a vision transformer and an MLP-Mixer, for small images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS, Model
from nasdistill.models.limits import MOST_CELLS, require_images

_DEVIATION = 0.02


class PatchModel(Model):
    """Base of networks of equal blocks, which all read and give one vector for each patch."""

    patch: int = Field(4, gt=0, description="side of a patch, in pixels; must divide the image's sides")
    width: int = Field(192, gt=0, description="numbers of a patch's vector")
    depth: int = Field(12, gt=0, le=MOST_CELLS, description="blocks")

    def grid(self, shape: Shape) -> tuple[int, int]:
        """Rows and columns of patches.

        Raises:
            UserError: the image is no whole number of patches.
        """
        require_images(f"network of patches ({self.registered_name})", shape, smallest=self.patch)
        _channels, height, width = shape
        if height % self.patch or width % self.patch:
            raise UserError(
                f"{self.registered_name} cuts images into patches of {self.patch}x{self.patch}, which {height}x{width} "
                "is no multiple of; choose another `patch`, or a `size` that it reads"
            )
        return height // self.patch, width // self.patch


@MODELS.register("vit")
class VisionTransformer(PatchModel):
    """A pre-normalised vision transformer; by default the size of DeiT-tiny, for images of about 32 pixels.

    Instead of a class token, the classifier reads the mean over the patches. Shorthand: `vit-WIDTH-DEPTH`.
    """

    source: ClassVar[str] = (
        "Touvron et al. 2021, Training data-efficient image transformers (arXiv:2012.12877), table 1 and section 4; "
        "the mean over patches of Beyer et al. 2022, Better plain ViT baselines (arXiv:2205.01580)"
    )
    shorthand: ClassVar[str] = r"vit-(?P<width>\d+)-(?P<depth>\d+)"

    heads: int = Field(3, gt=0, description="of attention; must divide `width`")
    expansion: int = Field(4, gt=0, description="hidden units of a block's perceptron, as a multiple of `width`")
    distillation_token: bool = Field(
        False,
        description="a token beside the patches with a classifier of its own, which the objective `token` teaches, or "
        "else the labels, with `auxiliary_weight`; the logits are the mean of both classifiers'",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> VisionTransformer:
        if self.width % self.heads:
            raise SpecError(f"{self.heads} heads cannot share a width of {self.width} evenly", ("heads",))
        return self

    def build(self, shape: Shape, classes: int) -> nn.Module:
        grid = self.grid(shape)
        blocks = [AttentionBlock(self.width, self.heads, self.expansion) for _ in range(self.depth)]
        kind = PatchNetworkWithToken if self.distillation_token else PatchNetwork
        return kind(blocks, self.patch, self.width, grid, shape[0], classes, positions=True)


@MODELS.register("mixer")
class Mixer(PatchModel):
    """An MLP-Mixer: perceptrons over the patches and over the channels in turn. Shorthand: `mixer-WIDTH-DEPTH`.

    Its size is half that of the smallest published one, for images of about 32 pixels.
    """

    source: ClassVar[str] = "Tolstikhin et al. 2021, MLP-Mixer (arXiv:2105.01601), section 2 and table 1"
    shorthand: ClassVar[str] = r"mixer-(?P<width>\d+)-(?P<depth>\d+)"

    width: int = Field(256, gt=0, description="numbers of a patch's vector")
    depth: int = Field(8, gt=0, le=MOST_CELLS, description="blocks")
    tokens_hidden: int = Field(128, gt=0, description="hidden units of the perceptrons over the patches")
    channels_hidden: int = Field(1024, gt=0, description="hidden units of the perceptrons over the channels")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        grid = self.grid(shape)
        patches = grid[0] * grid[1]
        blocks = [MixerBlock(self.width, patches, self.tokens_hidden, self.channels_hidden) for _ in range(self.depth)]
        return PatchNetwork(blocks, self.patch, self.width, grid, shape[0], classes, positions=False)


class FeedForward(nn.Sequential):
    """linear-GELU-linear on the last dimension."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)); [N, patches, width]."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.perceptron = FeedForward(width, expansion * width)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        read = torch.unflatten(self.queries_keys_values(self.norm1(patches)), 2, (3, self.heads, -1))
        queries, keys, values = read.permute(2, 0, 3, 1, 4)  # each [N, heads, patches, width / heads]
        attended = attention(queries, keys, values)
        patches = patches + self.projection(attended.transpose(1, 2).flatten(2))
        outputs: torch.Tensor = patches + self.perceptron(self.norm2(patches))
        return outputs


def attention(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """softmax(queries keys^T / sqrt(D)) values, each [N, heads, patches, D]."""
    if queries.requires_grad and queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        # torch's fused kernel takes two to seven times as long with gradients: `python -m benchmarks.attention`.
        return (queries / math.sqrt(queries.shape[3]) @ keys.transpose(2, 3)).softmax(3) @ values
    return functional.scaled_dot_product_attention(queries, keys, values)


class MixerBlock(nn.Module):
    """x + a perceptron over the patches of norm(x), then x + one over the channels; [N, patches, width]."""

    def __init__(self, width: int, patches: int, tokens_hidden: int, channels_hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.over_patches = FeedForward(patches, tokens_hidden)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.over_channels = FeedForward(width, channels_hidden)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        patches = patches + self.over_patches(self.norm1(patches).transpose(1, 2)).transpose(1, 2)
        outputs: torch.Tensor = patches + self.over_channels(self.norm2(patches))
        return outputs


class OnMaps(nn.Module):
    """A block of patches that reads and gives a map, [N, width, rows, columns], so that its output can be looked at.

    Both are views: in memory the numbers of a patch stay side by side.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.block(maps.flatten(2).transpose(1, 2))
        return torch.unflatten(outputs.transpose(1, 2), 2, maps.shape[2:])


class OnMapsAndToken(nn.Module):
    """A block of patches that reads and gives a map, as `OnMaps` does, and a token beside it, [N, 1, width].

    The output of its part `maps` is the map alone, so that it can be looked at.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.maps = nn.Identity()

    def forward(self, read: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        maps, token = read
        outputs = self.block(_in_a_row(maps, token)).transpose(1, 2)
        return self.maps(torch.unflatten(outputs[:, :, :-1], 2, maps.shape[2:])), outputs[:, :, -1:].transpose(1, 2)


def _in_a_row(maps: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """[N, width, rows, columns] and [N, 1, width] to [N, patches + 1, width], the token last."""
    return torch.cat([maps.flatten(2).transpose(1, 2), token], dim=1)


class PatchNetwork(nn.Module):
    """Patches, blocks, layer norm, mean over the patches, linear.

    The feature points are the blocks after a third, two thirds and all of the depth.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        patch: int,
        width: int,
        grid: tuple[int, int],
        channels: int,
        classes: int,
        *,
        positions: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, width, *grid)) if positions else None
        self.blocks = nn.Sequential(*map(OnMaps, blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classifier = nn.Linear(width, classes)
        self.feature_points = tuple(
            dict.fromkeys(f"blocks.{max(0, len(blocks) * third // 3 - 1)}" for third in (1, 2, 3))
        )
        if self.positions is not None:
            nn.init.trunc_normal_(self.positions, std=_DEVIATION)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _draw(module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.blocks(self.embedded(images))
        logits: torch.Tensor = self.classifier(self.norm(maps.flatten(2).transpose(1, 2)).mean(dim=1))
        return logits

    def embedded(self, images: torch.Tensor) -> torch.Tensor:
        """What the blocks read of the patches, [N, width, rows, columns]."""
        maps: torch.Tensor = self.embedding(images)
        return maps if self.positions is None else maps + self.positions


class PatchNetworkWithToken(PatchNetwork):
    """A learned token runs through the blocks beside the patches; the logits are the mean of both classifiers'.

    Its position is part of it. The feature points are the maps of the patches, without the token. The weights that
    `PatchNetwork` has too are drawn as there.
    """

    distillation_point = "token_classifier"

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        patch: int,
        width: int,
        grid: tuple[int, int],
        channels: int,
        classes: int,
        *,
        positions: bool,
    ) -> None:
        super().__init__(blocks, patch, width, grid, channels, classes, positions=positions)
        self.blocks = nn.Sequential(*map(OnMapsAndToken, blocks))
        self.feature_points = tuple(f"{point}.maps" for point in self.feature_points)
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.token_classifier = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.token, std=_DEVIATION)
        _draw(self.token_classifier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits, of_token = self.forward_with_auxiliary(images)
        return (logits + of_token) / 2

    def forward_with_auxiliary(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of the patches' classifier, and those of the token's."""
        maps = self.embedded(images)
        maps, token = self.blocks((maps, self.token.expand(maps.shape[0], -1, -1)))
        outputs = self.norm(_in_a_row(maps, token))
        of_token = self.token_classifier(outputs[:, -1])
        # Last, so that what it reads is the network's embedding.
        return self.classifier(outputs[:, :-1].mean(dim=1)), of_token


def _draw(layer: nn.Linear) -> None:
    nn.init.trunc_normal_(layer.weight, std=_DEVIATION)
    nn.init.zeros_(layer.bias)
