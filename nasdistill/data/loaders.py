"""Batches: normalised, augmented images on the device; what a step sees is a function of its place, not of history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from nasdistill.data.augmentations import Augmentation, BatchAugmentation, EpochAugmentation, PixelAugmentation, mixing
from nasdistill.data.balance import balanced_weights
from nasdistill.data.base import Data, ImageFiles, Images, ImageSet, Normalisation
from nasdistill.data.decoding import decoded_batches
from nasdistill.data.seeds import generator_for
from nasdistill.data.statistics import LEVELS
from nasdistill.errors import UserError, written_at
from nasdistill.training.batches import NO_LABEL, Batch
from nasdistill.training.settings import Balance

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine

SCORED_AT_ONCE = 500
"""Images of a batch that is scored: about as fast as any number from 32 to 1000, see `benchmarks.scoring`."""
PIXELS_AT_ONCE = SCORED_AT_ONCE * 32 * 32
"""Of a batch that is scored, so that large images take no more memory than small ones."""


class ImageBatches:
    """The batches of one set of images, epoch by epoch.

    The order of epoch e is a pure function of (seed, e), the augmentation of its batch b one of (seed, e, b): an epoch
    that is taken up again at a batch goes on with identical bits, whatever the number of workers.

    Args:
        images: `ImageSet`: all of them move to the device in their own type; `ImageFiles`: decoded for each batch.
        batch_size: images of a batch, over all processes together.
        shuffle: a new order in each epoch; else the order of `images`.
        augmentations: applied to each batch, in order. One that mixes images turns labels into distributions.
        classes: how many, which a batch of mixed labels has columns for.
        drop_last: leave out the last batch if it is not full.
        views: how many different epochs there are: epoch e equals epoch e modulo `views`, so that what a teacher says
            of its views can be kept; None makes every epoch a new one.
        epoch_images: how many an epoch has, if more than there are: they come again in a new order, all before any a
            further time. A batch may then hold an image twice, in two augmentations.
        balance: of classes, see `balanced_weights`. "sampling": an epoch is drawn with replacement, each image with its
            weight, in place of an order of all; "loss": batches come with the weights.
        rank, world_size: this process and how many share each batch; where a batch does not divide evenly, its first
            images are taken once more, so that all processes take the same number of steps. Where images are mixed,
            each process augments all of a batch, as any image may be mixed into its share.
    """

    def __init__(
        self,
        images: Images,
        normalisation: Normalisation,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        augmentations: Sequence[Augmentation] = (),
        classes: int = -1,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
        views: int | None = None,
        epoch_images: int | None = None,
        balance: Balance = "none",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.device = torch.device(device)
        self.labels = images.labels.to(self.device)
        if isinstance(images, ImageSet):
            images = ImageSet(images.images.to(self.device), self.labels)
        self._images = images
        kind = images.images.dtype if isinstance(images, ImageSet) else torch.uint8
        self._scale, self._shift = scale_and_shift(normalisation, self.device, kind)
        self.batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        waves = images.shape[1] == 1  # whose samples, of 8 bits or more, are no brightness
        for each in augmentations:
            if isinstance(each, PixelAugmentation) and (waves or kind != torch.uint8):
                raise UserError(f"{each.registered_name} changes colours of 8 bits, and these are no such images")
        self.augmentations = tuple(augmentations)
        self._classes = classes
        self._drop_last = drop_last
        self._memory_format = memory_format
        self.views = views
        self._epoch_images = max(len(images), epoch_images or 0)
        # on the CPU, as not every device has float64
        weights = None if balance == "none" else balanced_weights(images.labels.cpu())
        self._drawn_by = weights if balance == "sampling" else None
        self._weights = weights.to(self.device, torch.float32) if weights is not None and balance == "loss" else None
        self._world_size = world_size
        self._share = slice(rank, None, world_size)
        self._mixes = bool(mixing(self.augmentations))

    def __len__(self) -> int:
        """Steps of an epoch."""
        full, rest = divmod(self._epoch_images, self.batch_size)
        return full + (rest > 0 and not self._drop_last)

    @property
    def samples(self) -> int:
        """Images of an epoch, over all processes together."""
        return min(len(self) * self.batch_size, self._epoch_images)

    def epoch(self, number: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The batches of epoch `number` from batch `start` on, before batch `stop` if there is one.

        Raises:
            UserError: a file can no longer be decoded.
        """
        number = number if self.views is None else number % self.views
        places = self._places(number)[start:stop]
        for batch, (pixels, indices) in enumerate(zip(self._pixels(places), places, strict=True), start):
            here = indices.to(self.device, non_blocking=True)
            weights = None if self._weights is None else self._weights[here]
            yield self._augmented(Batch(pixels, self.labels[here], indices, weights=weights), number, batch)

    def _places(self, number: int) -> list[torch.Tensor]:
        """The indices of each batch of an epoch, this process's share."""
        order = self._order(generator_for(self._seed, "order", number))
        batches = torch.split(order, self.batch_size)[: len(self)]
        return [_divisible(batch, self._world_size)[slice(None) if self._mixes else self._share] for batch in batches]

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        if self._drawn_by is not None:
            return torch.multinomial(self._drawn_by, self._epoch_images, replacement=True, generator=generator)
        count = len(self._images)
        passes = [
            torch.randperm(count, generator=generator) if self._shuffle else torch.arange(count)
            for _ in range(-(-self._epoch_images // count))
        ]
        return torch.cat(passes)[: self._epoch_images]

    def _pixels(self, places: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        if isinstance(self._images, ImageFiles):
            for pixels in decoded_batches(self._images, places):
                yield pixels.to(self.device, non_blocking=True)
        else:
            for indices in places:
                yield self._images.images.index_select(0, indices.to(self.device, non_blocking=True))

    def _augmented(self, batch: Batch, epoch: int, number: int) -> Batch:
        """Augment and normalise; whole numbers stay what they are until something needs more."""
        generator = generator_for(self._seed, "augmentation", epoch, number, 0)  # the last part once was the process
        images = batch.images
        height, width = images.shape[2:]
        count = len(images) * (1 if self._mixes else self._world_size)
        targets = _targets(batch, self._classes) if self._mixes else torch.empty(0)
        for augmentation in self.augmentations:
            if isinstance(augmentation, EpochAugmentation):
                always = generator_for(self._seed, augmentation.registered_name)
                drawn = augmentation.sample_at(batch.indices, len(self._images), epoch, always)
            else:
                drawn = augmentation.sample(count, (height, width), generator)
                drawn = drawn if self._mixes else drawn[self._share]
            if augmentation.normalised and not images.is_floating_point():
                images = self._normalised(images)
            before = images, targets
            if isinstance(augmentation, BatchAugmentation):
                images, targets = augmentation.mix(images, targets, drawn)
            else:
                images = augmentation.apply(images, drawn)
            _require_same_form(augmentation, before, (images, targets))
        if not images.is_floating_point():
            images = self._normalised(images)
        return self._mixed(batch, images, targets) if self._mixes else batch._replace(images=images)

    def _mixed(self, batch: Batch, images: torch.Tensor, targets: torch.Tensor) -> Batch:
        """This process's share of a batch that all of them augmented."""
        weights = targets.sum(1, keepdim=True)
        return Batch(
            images[self._share],
            (targets if batch.weights is None else targets / weights)[self._share],
            batch.indices[self._share],
            weights=None if batch.weights is None else weights[self._share, 0],
        )

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self._shift, pixels.to(torch.float32, memory_format=self._memory_format), self._scale)


def scale_and_shift(
    normalisation: Normalisation, device: torch.device, kind: torch.dtype = torch.uint8
) -> tuple[torch.Tensor, torch.Tensor]:
    """((p - lowest) / span - mean) / std as p * scale + shift: float32, each [1, C, 1, 1].

    Args:
        kind: the type of p, see `LEVELS`; of pixels p / 255.
    """
    lowest, span = LEVELS[kind]
    mean = torch.tensor(normalisation.mean, dtype=torch.float64).view(1, -1, 1, 1)
    std = torch.tensor(normalisation.std, dtype=torch.float64).view(1, -1, 1, 1)
    return (1 / (span * std)).to(device, torch.float32), ((-lowest / span - mean) / std).to(device, torch.float32)


def _divisible(batch: torch.Tensor, world_size: int) -> torch.Tensor:
    missing = -len(batch) % world_size
    return torch.cat([batch, batch.repeat(-(-missing // len(batch)))[:missing]]) if missing else batch


def _targets(batch: Batch, classes: int) -> torch.Tensor:
    """What augmentations mix: each image's class, [N, classes], times its weight.

    So an image that is mixed of two classes weighs what each weighs, in its share: sum_c w_c * t_c of targets t, and
    the label term is torch's cross-entropy with a weight w_c for each class. An image without a label has zeros.
    """
    targets = functional.one_hot(batch.labels.clamp(min=0), classes) * (batch.labels != NO_LABEL).unsqueeze(1).float()
    return targets if batch.weights is None else targets * batch.weights[:, None]


def _require_same_form(
    augmentation: Augmentation, before: tuple[torch.Tensor, ...], after: tuple[torch.Tensor, ...]
) -> None:
    """Raise a UserError where images or targets have another shape or type than before."""
    for name, old, new in zip(("images", "targets"), before, after, strict=True):
        if not isinstance(new, torch.Tensor) or (new.shape, new.dtype) != (old.shape, old.dtype):
            raise UserError(
                f"the augmentation {augmentation.registered_name!r} ({written_at(type(augmentation))}) must keep shape "
                f"and type of the {name}, {_form(old)}, but made them {_form(new)}"
            )


def _form(value: object) -> str:
    return f"{list(value.shape)} of {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__


def training_batches(
    data: Data,
    batch_size: int,
    seed: int,
    engine: Engine,
    augment: bool = True,
    views: int | None = None,
    epoch_images: int | None = None,
    balance: Balance = "none",
) -> ImageBatches:
    """Shuffled batches to train on, shared by the engine's processes.

    Args:
        augment: apply the data set's augmentations.
        views: different epochs, see `ImageBatches`.
        epoch_images: of an epoch, see `ImageBatches`.
        balance: of classes, see `ImageBatches`.
    """
    of_epoch = max(len(data.train), epoch_images or 0)
    return ImageBatches(
        data.train,
        data.normalisation,
        batch_size,
        seed=seed,
        shuffle=True,
        augmentations=data.augmentations if augment else (),
        classes=len(data.classes),
        # Batch norm cannot learn from a single image.
        drop_last=of_epoch > batch_size and of_epoch % batch_size == 1,
        device=engine.device,
        memory_format=engine.memory_format,
        views=views,
        epoch_images=of_epoch,
        balance=balance,
        rank=engine.fabric.global_rank,
        world_size=engine.fabric.world_size,
    )


def evaluation_batches(part: Images, data: Data, engine: Engine, batch_size: int | None = None) -> ImageBatches:
    """All images of a part in their own order, without augmentation; each process can see them all.

    Args:
        batch_size: by default as many as are fast and take little memory.
    """
    return batches_in_order(part, data.normalisation, engine, batch_size)


def batches_in_order(
    images: Images, normalisation: Normalisation, engine: Engine, batch_size: int | None = None
) -> ImageBatches:
    """As `evaluation_batches`, in a normalisation that need not be the data set's own."""
    _channels, height, width = images.shape
    return ImageBatches(
        images,
        normalisation,
        batch_size or max(1, min(SCORED_AT_ONCE, PIXELS_AT_ONCE // (height * width))),
        seed=0,
        shuffle=False,
        device=engine.device,
        memory_format=engine.memory_format,
    )
