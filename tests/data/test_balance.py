"""Classes of unequal size: weights as scikit-learn has them, drawn as torch's sampler draws, anew from any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch.utils.data import WeightedRandomSampler

from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.data.balance import balanced_weights
from nasdistill.data.base import ImageFiles, Images, ImageSet, Normalisation
from nasdistill.data.loaders import ImageBatches
from nasdistill.data.seeds import generator_for
from nasdistill.data.statistics import pixel_sums
from nasdistill.training.batches import Batch
from tests.data.fakes import write_picture

NORMALISATION = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
SIZES = (2, 10, 41)
LABELS = torch.tensor([label for label, size in enumerate(SIZES) for _ in range(size)])
LABELS = LABELS[torch.randperm(53, generator=torch.Generator().manual_seed(3))]


def in_memory() -> ImageSet:
    pixels = torch.randint(256, (53, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, LABELS)


def batches(images: Images | None = None, **options: Any) -> ImageBatches:
    given = {"seed": 4, "shuffle": True, "augmentations": [AUGMENTATIONS.parse("flip")], **options}
    return ImageBatches(images or in_memory(), NORMALISATION, 10, **given)


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for pair in zip(first, second, strict=True)
        for a, b in zip(*(p[:3] for p in pair), strict=True)
    )


def places(found: list[Batch]) -> list[int]:
    return torch.cat([batch.indices for batch in found]).tolist()


def test_weights_are_those_of_scikit_learn() -> None:
    weights = balanced_weights(LABELS).numpy()
    numpy.testing.assert_allclose(weights, compute_sample_weight("balanced", LABELS.numpy()), rtol=1e-12)
    assert weights.mean() == pytest.approx(1)
    # 53 images in 3 classes, of which the rarest has 2.
    assert weights.max() == pytest.approx(53 / 6)


def test_a_class_without_images_does_not_count() -> None:
    assert balanced_weights(torch.tensor([4, 4, 4, 1])).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


@pytest.mark.parametrize(("epoch_images", "drawn"), [(None, 53), (20, 53), (120, 120)])
def test_an_epoch_is_what_torchs_sampler_draws(epoch_images: int | None, drawn: int) -> None:
    found = batches(balance="sampling", epoch_images=epoch_images)
    for epoch in (0, 7):
        weights = compute_sample_weight("balanced", LABELS.numpy()).tolist()
        sampler = WeightedRandomSampler(weights, drawn, replacement=True, generator=generator_for(4, "order", epoch))
        assert places(list(found.epoch(epoch))) == list(sampler)
    assert found.samples == drawn


def test_all_classes_are_equally_frequent_and_so_are_the_images_of_a_class() -> None:
    """Binomial counts within five deviations: a class has p = 1/3, an image of it p = 1 / (3 * size)."""
    found = batches(balance="sampling", augmentations=())
    draws = 400 * 53
    counts = numpy.zeros(53)
    for epoch in range(400):
        numpy.add.at(counts, places(list(found.epoch(epoch))), 1)
    for label, size in enumerate(SIZES):
        of_class = counts[LABELS.numpy() == label]
        for count, p in ((of_class.sum(), 1 / 3), *((count, 1 / (3 * size)) for count in of_class)):
            assert abs(count - draws * p) < 5 * (draws * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("kind", ["memory", "files", "files by workers"])
@pytest.mark.parametrize("balance", ["sampling", "loss"])
def test_an_epoch_is_a_function_of_seed_and_number_from_any_batch_on(kind: str, balance: str, tmp_path: Path) -> None:
    images: Images = in_memory()
    if kind != "memory":
        pictures = [write_picture(tmp_path / f"{k}.png", seed=k, size=(6, 6)) for k in range(53)]
        pixels = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
        paths = tuple(tmp_path / f"{k}.png" for k in range(53))
        images = ImageFiles(paths, LABELS, (3, 6, 6), *pixel_sums(pixels), workers=2 if "workers" in kind else 0)
    options = {"balance": balance, "epoch_images": 75}
    whole = list(batches(images, **options).epoch(2))
    for start in (0, 3, 8):
        torch.rand(start)  # what was drawn before must not matter
        assert equal(list(batches(images, **options).epoch(2, start)), whole[start:])
    assert not equal(list(batches(images, **options).epoch(1)), whole)
    assert not equal(list(batches(images, **{**options, "seed": 5}).epoch(2)), whole)
    # Every other epoch is the first again, where there are two views.
    assert equal(list(batches(images, views=2, **options).epoch(4)), list(batches(images, **options).epoch(0)))


@pytest.mark.parametrize("balance", ["sampling", "loss"])
def test_processes_share_what_is_drawn(balance: str) -> None:
    whole = list(batches(balance=balance, augmentations=()).epoch(3))
    shares = [list(batches(balance=balance, augmentations=(), rank=r, world_size=2).epoch(3)) for r in range(2)]
    for alone, *parts in zip(whole, *shares, strict=True):
        together = [int(place) for pair in zip(*(part.indices for part in parts), strict=True) for place in pair]
        assert together[: len(alone.indices)] == alone.indices.tolist()
        for part in parts:
            assert (part.weights is None) == (balance == "sampling")


def test_batches_come_with_the_weights_of_their_images() -> None:
    expected = compute_sample_weight("balanced", LABELS.numpy())
    for batch in batches(balance="loss").epoch(1):
        assert batch.weights is not None
        assert batch.weights.dtype == torch.float32
        numpy.testing.assert_allclose(batch.weights, expected[batch.indices], rtol=1e-6)


def test_weights_change_nothing_else() -> None:
    assert equal(list(batches(balance="loss").epoch(1)), list(batches().epoch(1)))
    assert all(batch.weights is None for balance in ("none", "sampling") for batch in batches(balance=balance).epoch(0))
