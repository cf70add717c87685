"""Teacher outputs on the training images, cached on disk and right under augmentation: each view is computed once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from nasdistill.data.loaders import ImageBatches
from nasdistill.distill.teacher import TeacherEnsemble, packed
from nasdistill.errors import DamagedFile, SpecError
from nasdistill.storage import (
    load_state,
    read_sealed,
    save_state,
    sha256_of_json,
    write_sealed,
)
from nasdistill.training.batches import Batch
from nasdistill.training.engine import Engine
from nasdistill.words import size

log = logging.getLogger(__name__)

INDEX = "outputs.json"
SHARD_BATCHES = 32
"""Batches of a file at most: what a kill costs."""
SHARD_BYTES = 64 << 20
"""Bytes of a file at most, unless one batch has more: what reading costs in memory."""
ROUNDING = 0.01
"""By how much of its largest value an output may differ between two passes: bfloat16 on some devices does."""


class BatchesWithOutputs:
    """Batches with the teachers' outputs: computed the first time, then read from disk.

    Batches, not images, are what outputs belong to: `ImageBatches` makes the order and the augmentation of a view, one
    epoch of `batches.views` different ones, from its seed again, bit for bit. An epoch's outputs serve all that see the
    same view: later epochs where there are fewer views than epochs, other students, a run that was killed.

    Outputs are rounded to half precision, those just computed as well, so that it makes no difference to a student
    whether they were read; they are given in float32, features included, whatever the engine computes in. A tensor with
    a value beyond 65504, the largest of half precision, is written in float32.

    On disk there is a folder for each `identity`, with the index `outputs.json` and files
    `<view>-<shard>-<SHA-256>.safetensors`, each with the outputs of up to 32 batches that follow one another:
    name as in `packed` to [images, ...]. A folder may be deleted whenever no run uses it.

    Args:
        batches: of one process.
        teacher_ensemble: on the engine's device.
        cache: where the folders of all identities lie.
        identity: all that decides the teachers' outputs for a view and which views there are, as plain data.
        epochs: of the training, so that the size is known.

    Raises:
        SpecError: at `cache_outputs`: several processes share each batch; the augmentations or the teachers do not
            repeat themselves; an output has no value per image; the disk has too little room.
    """

    def __init__(
        self,
        batches: ImageBatches,
        teacher_ensemble: TeacherEnsemble,
        engine: Engine,
        cache: Path,
        identity: Mapping[str, Any],
        epochs: int,
    ) -> None:
        if engine.processes > 1:
            raise _refused(f"{engine.processes} processes share each batch, so that none meets a whole view")
        self._batches = batches
        self._teachers = teacher_ensemble
        self._engine = engine
        self.views = min(batches.views or epochs, epochs)
        self.folder = cache / sha256_of_json(dict(identity))[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        index = self._index()
        outputs = self._rehearsed() if index is None else index["outputs"]
        self.bytes_per_image = sum(2 * torch.Size(shape).numel() for shape in outputs.values())
        of_batch = batches.batch_size * self.bytes_per_image
        self._per_shard = max(1, min(SHARD_BATCHES, SHARD_BYTES // of_batch))
        self._find_room()
        if index is None:
            write_sealed(self.folder / INDEX, {"identity": identity, "outputs": outputs})

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def samples(self) -> int:
        return self._batches.samples

    @property
    def labels(self) -> torch.Tensor:
        return self._batches.labels

    def epoch(self, number: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The batches of epoch `number`, see `ImageBatches`, with the teachers' outputs in `taught`."""
        view = number % self.views
        known = self._read(view, start // self._per_shard)
        # A file is written whole, so one that is missing is computed from its first batch on.
        begin = start if known is not None else start - start % self._per_shard
        computed: list[dict[str, torch.Tensor]] = []
        for step, batch in enumerate(self._batches.epoch(view, begin, stop), begin):
            shard, place = divmod(step, self._per_shard)
            if place == 0 and step > begin:
                known = self._read(view, shard)
            if known is not None:
                first = place * self._batches.batch_size
                taught = {name: tensor[first : first + len(batch.labels)] for name, tensor in known.items()}
            else:
                taught = self._ask(batch.images)
                computed.append(taught)
                if place == self._per_shard - 1 or step == len(self) - 1:
                    self._write(view, shard, computed)
                    computed = []
            if step >= start:
                yield batch._replace(taught={name: self._given(tensor) for name, tensor in taught.items()})

    def _ask(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        with self._engine.autocast():
            outputs = packed(self._teachers(images))
        return {name: rounded(tensor) for name, tensor in outputs.items()}

    def _given(self, tensor: torch.Tensor) -> torch.Tensor:
        """As a network would have put it out: sums over channels depend on their layout in their last bits."""
        tensor = tensor.float()
        return tensor.contiguous(memory_format=self._engine.memory_format) if tensor.dim() == 4 else tensor

    def _read(self, view: int, shard: int) -> dict[str, torch.Tensor] | None:
        for path in self.folder.glob(f"{_name(view, shard)}-*.safetensors"):
            try:
                known = load_state(path, expected_sha256=path.stem.split("-")[2])
            except DamagedFile as error:
                log.warning("%s; the teachers are asked again", error)
                path.unlink()
                continue
            return {name: tensor.to(self._engine.device) for name, tensor in known.items()}
        return None

    def _write(self, view: int, shard: int, computed: list[dict[str, torch.Tensor]]) -> None:
        path = self.folder / f"{_name(view, shard)}-{{sha256}}.safetensors"
        save_state(path, {name: torch.cat([each[name] for each in computed]) for name in computed[0]})

    def _index(self) -> dict[str, Any] | None:
        path = self.folder / INDEX
        try:
            return read_sealed(path) if path.is_file() else None
        except DamagedFile as error:
            log.warning("%s; it is written again", error)
            return None

    def _rehearsed(self) -> dict[str, list[int]]:
        """The shape per image of each output, once the first batch has shown that all of this can be repeated."""
        views = []
        with torch.random.fork_rng(devices=[]):
            for seed in (0, 1):
                torch.manual_seed(seed)
                views.append(next(self._batches.epoch(0)).images)
        if not torch.equal(*views):
            names = ", ".join(augmentation.registered_name for augmentation in self._batches.augmentations)
            raise _refused(
                f"the augmentations ({names}) make another view of the same batch each time, so that outputs would "
                "belong to other images; an augmentation must draw from the generator that it is given alone"
            )
        outputs, again = self._ask(views[0]), self._ask(views[0])
        for name, tensor in outputs.items():
            if tensor.shape[:1] != views[0].shape[:1]:
                raise _refused(
                    f"the teachers' output {name} is {list(tensor.shape)} for {len(views[0])} images: it has no first "
                    "dimension of images by which it could be cut"
                )
            apart, largest = (tensor.float() - again[name].float()).abs().max(), tensor.float().abs().max()
            if apart > ROUNDING * largest:
                raise _refused(
                    f"the teachers' output {name} differs by {apart:.2g} between two passes over the same images, "
                    f"where its largest value is {largest:.2g}; a teacher that draws random numbers has none to cache"
                )
        return {name: list(tensor.shape[1:]) for name, tensor in outputs.items()}

    def _find_room(self) -> None:
        """Say how much disk all views take, and refuse what does not fit."""
        shards = range(-(-len(self) // self._per_shard))
        images = self._per_shard * self._batches.batch_size
        there = {path.name.rpartition("-")[0] for path in self.folder.glob("*-*-*.safetensors")}
        missing = self.bytes_per_image * sum(
            min(images, self.samples - shard * images)
            for view in range(self.views)
            for shard in shards
            if _name(view, shard) not in there
        )
        whole = self.bytes_per_image * self.samples * self.views
        log.info(
            "the teachers' outputs on %d views of %d images take %s, of which %s are there, in %s",
            *(self.views, self.samples, size(whole), size(whole - missing), self.folder),
        )
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise _refused(
                f"the teachers' outputs on {self.views} views of {self.samples} images take {size(missing)} more in "
                f"{self.folder}, and {size(free)} are free; fewer views need less"
            )


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """In half precision, or in float32 where a value is beyond it, so that none becomes infinite unseen."""
    half = tensor.to(torch.float16)
    return half if half.isfinite().all() else tensor.float()


def _name(view: int, shard: int) -> str:
    return f"{view:05d}-{shard:05d}"


def _refused(reason: str) -> SpecError:
    return SpecError(f"the teachers' outputs cannot be cached: {reason}", ("cache_outputs",))
