"""From the images on disk to a data set that is split and knows its normalisation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from nasdistill.component import Facts
from nasdistill.data.base import Data, DataSet, ImageFiles, Images, ImageSet, Normalisation, RawData, has_labels
from nasdistill.data.splits import few_of_each, stratified
from nasdistill.data.statistics import computed_normalisation
from nasdistill.errors import SpecError, UserError, written_at

RESIZED_AT_ONCE = 1000
"""Images, so that no second set of large ones is in memory."""


def load(dataset: DataSet, seed: int) -> Data:
    """Read the images and split off the validation set with `seed`.

    Raises:
        UserError: files are missing or broken, or too few for a split.
    """
    return prepare(dataset.read(), dataset, seed)


def prepare(source: RawData, options: DataSet, seed: int) -> Data:
    """Limit the training set, split off the validation set with `seed`, compute the normalisation.

    Raises:
        UserError: there are too few images for a split, or a normalisation for another number of channels was given.
    """
    _require_whole_numbers_and_classes(source, options)
    train = source.train
    if options.limit is not None and options.limit < len(train):
        # The limit keeps to the same images for every seed, so that seeds differ in nothing but their randomness.
        train = train.subset(stratified(train.labels, options.limit, seed=0)[0])
    validation = source.validation
    if validation is None:
        train, validation = split_off(train, options.validation, seed, source.classes)
    return Data(
        train=train,
        validation=validation,
        test=source.test,
        classes=source.classes,
        normalisation=_normalisation(options, train),
        augmentations=tuple(options.augmentations),
        seed=seed,
        words=source.words,
        resize=source.resize,
        unlabelled=source.unlabelled,
    )


def facts_of(data: Data, source: RawData | None = None) -> Facts:
    """What a plan knows of images.

    Args:
        source: what `data` was prepared from, if that is known.
    """
    training, validation = (
        tuple(part.labels.bincount(minlength=len(data.classes)).tolist()) if has_labels(part) else ()
        for part in (data.train, data.validation)
    )
    facts = Facts(len(data.classes), training=training, validation=validation)
    if source is None:
        return facts
    return replace(
        facts,
        read=len(source.train),
        comes_with_validation=source.validation is not None,
        comes_with_test=not source.split_test,
    )


def _require_whole_numbers_and_classes(source: RawData, options: DataSet) -> None:
    kinds, told = ((torch.uint8, torch.int16), "uint8") if source.words is None else ((torch.int32,), "int32")
    for part in (source.train, source.validation, source.test, source.unlabelled):
        if part is None:
            continue
        images = part.images if isinstance(part, ImageSet) else torch.empty(0, *part.shape, dtype=torch.uint8)
        if images.dim() != 4 or images.dtype not in kinds or part.labels.dtype != torch.int64:
            raise UserError(
                f"the data set {options.registered_name!r} ({written_at(type(options))}) must read images as {told} "
                f"[N, C, H, W] with int64 labels, but read {list(images.shape)} of {images.dtype} with "
                f"{part.labels.dtype} labels"
            )


def split_off(images: Images, fraction: float, seed: int, classes: tuple[str, ...]) -> tuple[Images, Images]:
    """Take a stratified `fraction` away, of images without labels any; every class keeps at least one image.

    Returns:
        the remainder, and what was taken away.

    Raises:
        UserError: a class has fewer than two images, or the fraction leaves nothing on one side.
    """
    labelled = has_labels(images)
    per_class = images.labels.bincount(minlength=len(classes)).tolist() if labelled else [len(images)]
    for name, count in zip(classes if labelled else ("unlabelled",), per_class, strict=True):
        if count < 2:
            raise UserError(
                f"the class {name!r} has {count} training image(s) left, of which one is to be split off: each class "
                "needs one to train on, one that validates and, unless test images are given, one that tests"
            )
    count = max(1, round(fraction * len(images)))
    if count > len(images) - len(per_class):
        raise UserError(
            f"splitting {fraction} off {len(images)} images leaves less than one image for each of {len(classes)} "
            "classes; choose a smaller fraction"
        )
    taken, rest = stratified(images.labels, count, seed, keep=1)
    return images.subset(rest), images.subset(taken)


def with_few_images(data: Data, per_class: int, seed: int) -> Data:
    """The data set with so many training images of each class; all else stays, the normalisation too.

    Raises:
        UserError: a class has fewer.
    """
    sizes = data.train.labels.bincount(minlength=len(data.classes)).tolist()
    fewest, name = min(zip(sizes, data.classes, strict=True), key=lambda pair: pair[0])
    if fewest < per_class:
        raise UserError(f"the class {name!r} has {fewest} training image(s); {per_class} are wanted of each class")
    return replace(data, train=data.train.subset(few_of_each(data.train.labels, per_class, seed)))


def at_size(data: Data, size: tuple[int, int]) -> Data:
    """The data set with images of another height and width, resized bilinearly and with antialiasing."""
    train, validation, test = (_resized(part, size) for part in (data.train, data.validation, data.test))
    return replace(data, train=train, validation=validation, test=test)


def _resized(images: Images, size: tuple[int, int]) -> Images:
    if images.shape[1:] == size:
        return images
    if isinstance(images, ImageFiles):  # each time they are decoded, and as those that are kept
        return replace(images, shape=(images.shape[0], *size), first_size=images.first_size or images.shape[1:])
    parts = [
        functional.interpolate(part, size, mode="bilinear", antialias=True)
        for part in torch.split(images.images, RESIZED_AT_ONCE)
    ]
    return ImageSet(torch.cat(parts), images.labels)


def _normalisation(options: DataSet, train: Images) -> Normalisation:
    if options.normalisation == "computed":
        return computed_normalisation(train)
    channels = train.shape[0]
    for name, values in (("mean", options.normalisation.mean), ("std", options.normalisation.std)):
        if len(values) != channels:
            raise SpecError(
                f"the images have {channels} channel(s), but {len(values)} number(s) were given",
                ("normalisation", name),
            )
    return options.normalisation
