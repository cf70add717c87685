"""Augmentations that mix images and labels: against their papers' formulas, and in the batches of a training."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy
import pytest
import torch
from scipy import stats
from torch.nn import functional

from nasdistill.data.augmentations import AUGMENTATIONS, BatchAugmentation
from nasdistill.data.augmentations.mixes import boxes
from nasdistill.data.balance import balanced_weights
from nasdistill.data.base import DATASETS, ImageSet, Normalisation
from nasdistill.data.loaders import ImageBatches
from nasdistill.data.preparation import prepare
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch
from nasdistill.training.tasks import label_loss

MIXERS = ("mixup", "cutmix")
NORMALISATION = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
CLASSES = 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(spec: object) -> BatchAugmentation:
    augmentation = AUGMENTATIONS.parse(spec)
    assert isinstance(augmentation, BatchAugmentation)
    return augmentation


def batches(*augmentations: object, **options: Any) -> ImageBatches:
    """53 images; class 0 has 5 of them."""
    pixels = torch.randint(256, (53, 3, 8, 8), dtype=torch.uint8, generator=generator())
    images = ImageSet(pixels, torch.arange(53).sub(4).clamp(min=0) % (CLASSES - 1) + (torch.arange(53) > 4))
    given: dict[str, Any] = {"seed": 3, "shuffle": True, "classes": CLASSES, **options}
    return ImageBatches(
        images, NORMALISATION, 10, augmentations=[AUGMENTATIONS.parse(each) for each in augmentations], **given
    )


def test_mixup_blends_neighbours_and_their_labels_by_one_share() -> None:
    images, targets = torch.randn(6, 3, 4, 5, generator=generator()), torch.eye(6)
    share = torch.linspace(0, 1, 6, dtype=torch.float64)
    mixed, labels = make("mixup").mix(images, targets, share)
    for n in range(6):
        part = float(share[n])
        assert torch.allclose(mixed[n], part * images[n] + (1 - part) * images[n - 1], atol=1e-6)
        assert torch.allclose(labels[n], part * targets[n] + (1 - part) * targets[n - 1])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_betas(alpha: float) -> None:
    drawn = make({"name": "mixup", "alpha": alpha}).sample(4000, (8, 8), generator())
    assert stats.kstest(drawn.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_boxes_are_those_of_the_released_code() -> None:
    """Against its formulas in numpy: int(W * sqrt(1 - l)), half of it on each side of the centre, clipped."""
    rng = numpy.random.default_rng(0)
    for _ in range(200):
        share, y, x = rng.random(), rng.integers(9), rng.integers(14)
        height, width = int(9 * numpy.sqrt(1 - share)), int(14 * numpy.sqrt(1 - share))
        corners = [numpy.clip(y - height // 2, 0, 9), numpy.clip(x - width // 2, 0, 14)]
        corners += [numpy.clip(y + height // 2, 0, 9), numpy.clip(x + width // 2, 0, 14)]
        found = boxes(torch.tensor([share], dtype=torch.float64), torch.tensor([[y, x]]), (9, 14))
        assert found.tolist() == [list(map(int, corners))]


def test_labels_of_cutmix_go_by_the_pixels_of_each_image() -> None:
    images = torch.arange(16, dtype=torch.uint8).view(16, 1, 1, 1).expand(16, 3, 8, 9)
    cutmix = make("cutmix")
    mixed, targets = cutmix.mix(images, torch.eye(16), cutmix.sample(16, (8, 9), generator(1)))
    assert mixed.dtype == torch.uint8
    for n in range(16):
        pixels = mixed[n, 0].flatten().long().bincount(minlength=16)
        assert torch.allclose(targets[n], pixels / 72)
        assert pixels[n] + pixels[n - 1] == 72
    assert (targets.amax(1) < 1).sum() > 8


def test_cutmix_leaves_the_share_alone_that_it_says() -> None:
    boxed = make({"name": "cutmix", "probability": 0.25}).sample(4000, (64, 64), generator())
    assert float((boxed[:, 2] > boxed[:, 0]).double().mean()) == pytest.approx(0.25, abs=0.035)


@pytest.mark.parametrize("name", MIXERS)
class TestBatches:
    def test_labels_are_distributions_over_the_classes_of_what_is_seen(self, name: str) -> None:
        for batch in batches(name).epoch(0):
            assert batch.labels.shape == (len(batch.images), CLASSES)
            assert torch.allclose(batch.labels.sum(1), torch.ones(len(batch.images)))
            assert batch.weights is None
        assert bool((batch.labels.amax(1) < 0.999).any())

    def test_an_epoch_taken_up_again_and_a_repeated_view_have_the_same_bits(self, name: str) -> None:
        whole = list(batches("crop", name, "flip").epoch(2))
        for other in (batches("crop", name, "flip").epoch(2, 3), batches("crop", name, "flip", views=3).epoch(5, 3)):
            for one, two in zip(whole[3:], other, strict=True):
                assert torch.equal(one.images, two.images)
                assert torch.equal(one.labels, two.labels)

    def test_processes_share_the_batches_of_one(self, name: str) -> None:
        alone = list(batches(name, "flip", balance="loss").epoch(1))
        shares = [list(batches(name, "flip", balance="loss", rank=r, world_size=2).epoch(1)) for r in range(2)]
        for whole, *parts in list(zip(alone, *shares, strict=True))[:-1]:  # the last is padded
            for rank, part in enumerate(parts):
                assert torch.equal(part.images, whole.images[rank::2])
                assert torch.equal(part.labels, whole.labels[rank::2])
                assert torch.equal(part.indices, whole.indices[rank::2])
                assert whole.weights is not None
                assert part.weights is not None
                assert torch.equal(part.weights, whole.weights[rank::2])

    def test_classes_weigh_in_mixed_labels_what_torchs_class_weights_are(self, name: str) -> None:
        """Batches of the same bits, weighed and not: our loss of the first is torch's of the second."""
        weighed, plain = batches(name, balance="loss"), batches(name)
        of_image = balanced_weights(plain.labels)
        of_class = torch.stack([of_image[plain.labels == each][0] for each in range(CLASSES)]).float()
        for ours, theirs in zip(weighed.epoch(0), plain.epoch(0), strict=True):
            logits = torch.randn(len(ours.images), CLASSES, generator=generator())
            expected = functional.cross_entropy(logits, theirs.labels, weight=of_class)
            assert label_loss(logits, ours, 0.0).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", MIXERS)
def test_channels_last_stays_and_the_input_is_left_alone(name: str) -> None:
    images, targets = torch.randn(6, 3, 8, 8, generator=generator()), torch.eye(6)
    before, mixer = images.clone(), make(name)
    drawn = mixer.sample(6, (8, 8), generator())
    plain, _ = mixer.mix(images, targets, drawn)
    mixed, _ = mixer.mix(images.contiguous(memory_format=torch.channels_last), targets, drawn)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mixed, plain)
    assert torch.equal(images, before)
    assert torch.equal(targets, torch.eye(6))


def test_the_label_loss_of_a_mixed_batch_is_the_mixture_of_both_labels_losses() -> None:
    """Zhang et al.'s identity: CE(p, l*a + (1-l)*b) = l*CE(p, a) + (1-l)*CE(p, b), with label smoothing as well."""
    logits = torch.randn(4, CLASSES, generator=generator())
    one, other = torch.arange(4), torch.tensor([4, 0, 0, 1])
    targets = torch.lerp(*(functional.one_hot(each, CLASSES).float() for each in (other, one)), 0.3)
    found = label_loss(logits, Batch(torch.empty(0), targets, one), 0.1)
    each = [functional.cross_entropy(logits, labels, label_smoothing=0.1) for labels in (one, other)]
    assert found.item() == pytest.approx((0.3 * each[0] + 0.7 * each[1]).item(), rel=1e-6)


def test_what_breaks_the_contract_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(make("mixup")), "mix", lambda _self, images, targets, _drawn: (images, targets[:, 1:]))
    where = r"'mixup' \(.*mixes.py, line \d+\)"
    with pytest.raises(UserError, match=rf"{where} must keep .* targets, \[10, 5\] .*, but made them \[10, 4\]"):
        next(batches("mixup").epoch(0))
    monkeypatch.setattr(type(AUGMENTATIONS.parse("flip")), "apply", lambda _self, images, _drawn: images.double())
    with pytest.raises(UserError, match=r"'flip' \(.*standard.py, line \d+\) must keep .*uint8, but made .*float64"):
        next(batches("flip").epoch(0))


def test_a_data_set_of_float_images_is_named_with_its_line() -> None:
    digits = DATASETS.parse("digits")
    source = digits.read()
    assert isinstance(source.train, ImageSet)
    floats = dataclasses.replace(source, train=ImageSet(source.train.images / 255, source.train.labels))
    with pytest.raises(UserError, match=r"'digits' \(.*digits.py, line \d+\) must read images as uint8 .*float32"):
        prepare(floats, digits, seed=0)
