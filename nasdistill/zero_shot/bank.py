"""A bank of pseudo-images: what generators made is remembered, so that a student sees it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from nasdistill.data.base import Normalisation
from nasdistill.data.loaders import scale_and_shift
from nasdistill.data.seeds import generator_for
from nasdistill.errors import DamagedFile, UserError
from nasdistill.storage import load_state, save_state
from nasdistill.training.checkpoints import KEPT, Checkpoints
from nasdistill.training.engine import Engine
from nasdistill.training.processes import all_gather
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.generators import Generator

WHITE = 255


def check_rememberable(generator: Generator, normalisation: Normalisation | None) -> None:
    """Refuse what a bank could not hold.

    Raises:
        UserError: nobody knows the images' normalisation, or the generator makes no images.
    """
    if generator.makes_embeddings:
        raise UserError(f"a bank remembers images in 8 bits, and {generator.registered_name!r} makes embeddings")
    if normalisation is None:
        raise UserError(
            "a bank remembers images in 8 bits, and nobody knows what the teacher's images were normalised with; "
            "import it with its normalisation"
        )


class Bank:
    """The latest pseudo-images, as bytes; a part of a loop's state.

    All processes hold the same images, of all of them. A checkpoint names files beside it, each with the images that
    came since the one before, so that none is written twice.

    Source: Fang et al., Contrastive Model Inversion for Data-Free Knowledge Distillation (2021), and its released code,
    in which the images are a folder of PNG files that forgets nothing.

    Args:
        size: images; where it is full the oldest go.
        share: of a batch that `mixed` draws.
        generation: whose images these are; their normalisation says which values are black and white.
        checkpoints: the files lie in their folder's `bank`.

    Raises:
        UserError: see `check_rememberable`.
    """

    def __init__(
        self, size: int, share: float, generation: Generation, engine: Engine, checkpoints: Checkpoints
    ) -> None:
        check_rememberable(generation.component, generation.normalisation)
        assert generation.normalisation is not None
        self.size = size
        self.share = share
        self._memory_format = engine.memory_format
        self._scale, self._shift = scale_and_shift(generation.normalisation, engine.device)
        self._pixels = torch.empty((size, *generation.shape), dtype=torch.uint8, device=engine.device)
        self._admitted = 0
        self._folder = None if checkpoints.folder is None else checkpoints.folder / "bank"
        self._writes = checkpoints.writes
        self._files: list[tuple[int, int, str]] = []  # number of the first image, of the one after the last, SHA-256
        self._saved_at: list[int] = []  # how many had been admitted, for the checkpoints that may still be there

    def __len__(self) -> int:
        return min(self._admitted, self.size)

    def admit(self, images: torch.Tensor) -> None:
        """Remember this process's share of a pseudo-batch, [N, C, H, W], normalised; values beyond black and white are
        clipped. All processes must come by."""
        pixels = ((images - self._shift) / self._scale).round().clamp(0, WHITE).to(torch.uint8)
        together = all_gather(pixels).transpose(0, 1).flatten(0, 1)[-self.size :]
        places = torch.arange(self._admitted, self._admitted + len(together)) % self.size
        self._pixels.index_copy_(0, places.to(self._pixels.device, non_blocking=True), together)
        self._admitted += len(together)

    def mixed(self, images: torch.Tensor, batches: int, *place: int | str) -> Iterator[torch.Tensor]:
        """Batches of remembered images, and of those just made as far as `share` leaves room: each [N, C, H, W].

        A remembered image comes again only after all others have, as far as `batches` reach. Which they are is a
        function of the place alone.

        Args:
            images: those just made, [N, C, H, W], normalised.
        """
        chance = generator_for("bank", *place)
        drawn = max(1, round(self.share * len(images)))
        rounds = -(-batches * drawn // len(self))
        order = [torch.randperm(len(self), generator=chance) for _ in range(rounds)]
        for old in torch.split(torch.cat(order), drawn)[:batches] if order else ():
            fresh = torch.randperm(len(images), generator=chance)[drawn:]
            fresh, old = (chosen.to(images.device, non_blocking=True) for chosen in (fresh, old))
            pixels = self._pixels.index_select(0, old).to(torch.float32, memory_format=self._memory_format)
            yield torch.cat([torch.addcmul(self._shift, pixels, self._scale), images.index_select(0, fresh)])

    def state_dict(self) -> dict[str, Any]:
        """What is not in a file yet becomes one; files that no checkpoint can name any more go."""
        self._saved_at = [*self._saved_at, self._admitted][-KEPT - 1 :]
        if self._writes and self._folder is not None:
            first = max(self._files[-1][1] if self._files else 0, self._admitted - self.size)
            if first < self._admitted:
                places = torch.arange(first, self._admitted, device=self._pixels.device) % self.size
                self._folder.mkdir(parents=True, exist_ok=True)
                digest = save_state(self._folder / _name(first, self._admitted), {"pixels": self._pixels[places]})
                self._files.append((first, self._admitted, digest))
            self._files = [each for each in self._files if each[1] > self._saved_at[0] - self.size]
            kept = {_name(first, end) for first, end, _digest in self._files}
            for path in self._folder.glob("*.safetensors"):
                if path.name not in kept:
                    path.unlink()
        return {"admitted": self._admitted, "files": self._files, "saved_at": self._saved_at}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        self._admitted, self._saved_at = state_dict["admitted"], list(state_dict["saved_at"])
        self._files = [(first, end, digest) for first, end, digest in state_dict["files"]]
        for first, end, digest in self._files:
            if self._folder is not None and end > self._admitted - self.size:
                try:
                    pixels = load_state(self._folder / _name(first, end), digest)["pixels"]
                except DamagedFile as error:
                    raise UserError(
                        f"{error}; the checkpoints beside it need it: move {self._folder.parent} away to start anew"
                    ) from None
                places = torch.arange(first, end) % self.size
                self._pixels[places.to(self._pixels.device)] = pixels.to(self._pixels.device)


def _name(first: int, end: int) -> str:
    return f"{first:012d}-{end:012d}.safetensors"
