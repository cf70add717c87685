"""Augmentations of photographs against torchvision's, image by image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as torchvision

from nasdistill.data import colours
from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.data.augmentations.policies import LEVELS, OPERATIONS
from nasdistill.data.augmentations.random_resized_crop import random_boxes
from nasdistill.data.base import DATASETS, ImageSet, Normalisation
from nasdistill.data.loaders import ImageBatches
from nasdistill.errors import SpecError, UserError

SIZES = [(3, 32, 32), (1, 9, 15), (3, 8, 40)]
NORMALISATION = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Smooth noise, so that all values occur; one image is of one colour."""
    channels, height, width = shape
    coarse = torch.rand(count, channels, 4, 4, generator=generator(1)) * 255
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    images = (fine + 20 * torch.randn(count, *shape, generator=generator(2))).clamp(0, 255).to(torch.uint8)
    images[0] = 77
    return images


def make(spec: object) -> Any:
    return AUGMENTATIONS.parse(spec)


def augmented(augmentation: Augmentation, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return augmentation.apply(images, augmentation.sample(len(images), tuple(images.shape[2:]), generator(seed)))


def assert_same(found: torch.Tensor, expected: torch.Tensor, odd: float = 0.01) -> None:
    """Equal, but that a share of the pixels may be rounded the other way."""
    assert found.dtype == expected.dtype == torch.uint8
    distance = (found.int() - expected.int()).abs()
    assert int(distance.max()) <= 1
    assert float((distance > 0).float().mean()) <= odd


FACTORS = torch.tensor([0.0, 0.1, 0.6, 1.0, 1.3, 1.9])


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize(
    ("operation", "theirs", "amounts"),
    [
        (colours.brightness, torchvision.adjust_brightness, FACTORS),
        (colours.contrast, torchvision.adjust_contrast, FACTORS),
        (colours.saturation, torchvision.adjust_saturation, FACTORS),
        (colours.sharpness, torchvision.adjust_sharpness, FACTORS),
        (colours.hue, torchvision.adjust_hue, torch.tensor([-0.5, -0.2, 0.0, 0.01, 0.3, 0.5])),
        (colours.posterize, lambda image, bits: torchvision.posterize(image, int(bits)), torch.arange(2.0, 9)),
        (colours.solarize, torchvision.solarize, torch.tensor([0.0, 77, 127.5, 255])),
        (lambda images, _: colours.autocontrast(images), lambda image, _: torchvision.autocontrast(image), FACTORS),
        (lambda images, _: colours.equalize(images), lambda image, _: torchvision.equalize(image), FACTORS),
    ],
)
def test_each_image_gets_what_torchvision_makes_of_it(
    operation: Callable[..., Any], theirs: Callable[..., Any], amounts: torch.Tensor, shape: tuple[int, int, int]
) -> None:
    images = photographs(len(amounts), shape)
    expected = [theirs(image, float(amount)) for image, amount in zip(images, amounts, strict=True)]
    assert_same(operation(images, amounts), torch.stack(expected))


def test_images_too_small_to_smooth_stay_as_they_are() -> None:
    images = photographs(2, (3, 2, 9))
    assert torch.equal(colours.sharpness(images, torch.tensor([0.0, 2.0])), images)


def test_a_jitter_applies_its_four_changes_in_the_drawn_order() -> None:
    images = photographs(60, (3, 8, 8))
    jitter = make({"name": "color-jitter", "brightness": 0.3, "contrast": 2, "saturation": 0.5, "hue": 0.2})
    drawn = jitter.sample(60, (8, 8), generator())
    changes = [
        torchvision.adjust_brightness,
        torchvision.adjust_contrast,
        torchvision.adjust_saturation,
        torchvision.adjust_hue,
    ]
    expected = []
    for image, row in zip(images, drawn.tolist(), strict=True):
        for number in map(int, row[4:]):
            image = changes[number](image, row[number])
        expected.append(image)
    distance = (jitter.apply(images, drawn).int() - torch.stack(expected).int()).abs()
    assert float((distance > 1).float().mean()) < 0.01  # what one change rounds, the next may stretch
    assert len({tuple(row) for row in drawn[:, 4:].tolist()}) > 12
    many = jitter.sample(8000, (8, 8), generator(1))
    for column, (low, high) in enumerate([(0.7, 1.3), (0, 3), (0.5, 1.5), (-0.2, 0.2)]):
        assert kstest(many[:, column].numpy(), "uniform", args=(low, high - low)).pvalue > 1e-4
    first = many[:, 4].long().bincount(minlength=4)
    assert float(((first - 2000.0) ** 2 / 2000).sum()) < 21  # chi-squared, 3 degrees of freedom, 99.99 %


def test_grey_images_have_three_equal_channels() -> None:
    images = photographs(6, (3, 5, 6))
    assert torch.equal(
        make({"name": "grey", "probability": 1}).apply(images, torch.ones(6, dtype=torch.bool)),
        torchvision.rgb_to_grayscale(images, 3),
    )
    kept = augmented(make({"name": "grey", "probability": 0.25}), images[1:2].expand(2000, -1, -1, -1)) == images[1]
    assert float(kept.flatten(1).all(1).float().mean()) == pytest.approx(0.75, abs=0.05)


THEIRS: dict[str, tuple[str, Callable[[float], float]]] = {
    "identity": ("Identity", float),
    "shear-x": ("ShearX", float),
    "shear-y": ("ShearY", float),
    "translate-x": ("TranslateX", float),
    "translate-y": ("TranslateY", float),
    "rotate": ("Rotate", float),
    "brightness": ("Brightness", lambda magnitude: 1 + magnitude),
    "color": ("Color", lambda magnitude: 1 + magnitude),
    "contrast": ("Contrast", lambda magnitude: 1 + magnitude),
    "sharpness": ("Sharpness", lambda magnitude: 1 + magnitude),
    "posterize": ("Posterize", float),
    "solarize": ("Solarize", lambda magnitude: 255 * magnitude),
    "autocontrast": ("AutoContrast", lambda _: 255.0),
    "equalize": ("Equalize", float),
}
"""By our name of an operation torchvision's, and our amount for its magnitude."""


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize(
    ("ours", "theirs"), [("rand-augment", v2.RandAugment()), ("trivial-augment", v2.TrivialAugmentWide())]
)
@pytest.mark.parametrize("level", [0, 9, 17, LEVELS])
def test_operations_and_magnitudes_are_those_of_torchvision(
    ours: str, theirs: Any, level: int, shape: tuple[int, int, int]
) -> None:
    policy, size, image = make(ours), shape[1:], photographs(2, shape)[1]
    drawn = policy.drawn(torch.full((1000, 1), level), size, generator())[:, 0]
    assert list(THEIRS) == list(OPERATIONS)
    for number, (name, (title, amount_of)) in enumerate(THEIRS.items()):
        table, signed = theirs._AUGMENTATION_SPACE[title]
        levels = table(LEVELS + 1, *size)
        strength = 0.0 if levels is None else float(levels[level])
        magnitudes = (-strength, strength) if signed else (strength,)
        found = drawn[drawn[:, 0] == number][:, 1].unique()
        if levels is not None:
            assert found.tolist() == pytest.approx(sorted({amount_of(each) for each in magnitudes}), abs=1e-4), name
        for magnitude in magnitudes:
            ours_made = OPERATIONS[name].apply(image[None], torch.tensor([amount_of(magnitude)]))[0]
            made = theirs._apply_image_or_video_transform(
                image, title, magnitude, v2.InterpolationMode.NEAREST, {torch.Tensor: None}
            )
            distance = (ours_made.int() - made.int()).abs()
            # A place half way between two pixels may be rounded to either.
            assert float((distance > 1).float().mean()) < 0.02, name
            assert float((distance > 0).float().mean()) < 0.02, name


def test_a_policy_draws_operations_and_magnitudes_evenly() -> None:
    rand = make({"name": "rand-augment", "operations": 3, "magnitude": 12}).sample(5000, (8, 8), generator())
    assert rand.shape == (5000, 3, 2)
    trivial = make("trivial-augment").sample(20_000, (8, 8), generator())
    for numbers in (rand[:, :, 0].flatten(), trivial[:, 0, 0]):
        times = numbers.long().bincount(minlength=14)
        mean = len(numbers) / 14
        assert float(((times - mean) ** 2 / mean).sum()) < 42  # chi-squared, 13 degrees of freedom, 99.99 %
    shears = trivial[trivial[:, 0, 0] == list(OPERATIONS).index("shear-x")][:, 0, 1]
    assert len(shears.unique()) == 2 * LEVELS + 1
    assert abs(float((shears > 0).double().mean()) - 0.5) < 0.06


def test_images_of_one_batch_go_through_their_own_operations_in_turn() -> None:
    images = photographs(40, (3, 16, 16))
    policy = make({"name": "rand-augment", "magnitude": 20})
    drawn = policy.sample(40, (16, 16), generator())
    expected = []
    for image, steps in zip(images, drawn.float(), strict=True):
        for number, amount in steps:
            image = list(OPERATIONS.values())[int(number)].apply(image[None], amount[None])[0]
        expected.append(image)
    assert torch.equal(policy.apply(images, drawn), torch.stack(expected))


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_a_resized_crop_is_that_of_torchvision(shape: tuple[int, int, int]) -> None:
    images = photographs(30, shape)
    crop = make("random-resized-crop")
    drawn = crop.sample(30, shape[1:], generator())
    expected = [
        torchvision.resized_crop(image, *box, list(shape[1:]))
        for image, box in zip(images, drawn.tolist(), strict=True)
    ]
    assert_same(crop.apply(images, drawn), torch.stack(expected), odd=0.2)  # theirs rounds in between


def test_boxes_have_the_areas_and_ratios_that_are_asked_for() -> None:
    drawn, within = random_boxes(4000, (200, 300), (0.1, 0.3), (0.5, 2.0), generator())
    assert bool(within.all())
    top, left, height, width = drawn.unbind(1)
    assert bool(((top >= 0) & (left >= 0) & (top + height <= 200) & (left + width <= 300)).all())
    share = (height * width).double() / 60_000
    ratio = (width / height).log2().double()
    assert kstest(share.numpy(), "uniform", args=(0.1, 0.2)).pvalue > 1e-4
    assert kstest(ratio.numpy(), "uniform", args=(-1, 2)).pvalue > 1e-4
    place = (top / (200 - height)).double()
    assert abs(float(place.mean()) - 0.5) < 0.03


def test_where_no_box_fits_the_middle_is_cut() -> None:
    narrow = make({"name": "random-resized-crop", "scale": (0.9, 1.0), "ratio": (1.0, 1.0)})
    assert narrow.sample(3, (10, 40), generator()).tolist() == [[0, 15, 10, 10]] * 3


def test_erasing_sets_whole_boxes_to_the_mean_colour() -> None:
    images = torch.ones(400, 3, 20, 30)
    erasing = make("erasing")
    drawn = erasing.sample(400, (20, 30), generator())
    erased = erasing.apply(images, drawn)
    expected = images.clone()
    for image, (top, left, height, width) in zip(expected, drawn.tolist(), strict=True):
        torchvision.erase(image, top, left, height, width, torch.zeros(()), inplace=True)
    assert torch.equal(erased, expected)
    assert abs(float((drawn[:, 2] > 0).float().mean()) - 0.5) < 0.13


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_a_blur_is_that_of_torchvision(shape: tuple[int, int, int]) -> None:
    images = photographs(12, shape)
    blur = make("blur")
    sigma = blur.sample(12, shape[1:], generator())
    expected = [
        torchvision.gaussian_blur(image, [5, 5], [width, width]) if width else image
        for image, width in zip(images, sigma.tolist(), strict=True)
    ]
    assert 0 < int((sigma > 0).sum()) < 12
    assert_same(blur.apply(images, sigma), torch.stack(expected))


def test_a_shear_is_that_of_torchvision() -> None:
    images = torch.randn(3, 3, 9, 12, generator=generator())
    angles = torch.tensor([-40.0, 5.0, 25.0])
    expected = [
        torchvision.affine(image, 0.0, [0, 0], 1.0, [float(angle), 0.0], v2.InterpolationMode.BILINEAR)
        for image, angle in zip(images, angles, strict=True)
    ]
    sheared = make({"name": "shear", "border": "zero"}).apply(images, angles)
    torch.testing.assert_close(sheared, torch.stack(expected), rtol=0, atol=1e-4)


def of_flips(images: ImageSet, epoch: int, **options: Any) -> dict[int, bool]:
    """By image whether an epoch shows it mirrored."""
    shown = ImageBatches(
        images, NORMALISATION, 8, seed=1, shuffle=True, augmentations=[make("alternating-flip")], **options
    )
    plain = torch.tensor(NORMALISATION.mean), torch.tensor(NORMALISATION.std)
    found = {}
    for batch in shown.epoch(epoch):
        pixels = batch.images * plain[1].view(1, 3, 1, 1) + plain[0].view(1, 3, 1, 1)
        for index, image in zip(batch.indices.tolist(), pixels, strict=True):
            found[index] = bool(image[0, 0, 0] < image[0, 0, -1])
    return found


def test_an_alternating_flip_shows_each_image_from_both_sides_in_turn() -> None:
    ramp = torch.arange(200, 0, -40, dtype=torch.uint8).expand(50, 3, 5, 5)
    images = ImageSet(ramp, torch.zeros(50, dtype=torch.int64))
    first, second, third = (of_flips(images, epoch) for epoch in range(3))
    assert 10 < sum(first.values()) < 40
    assert second == {index: not flipped for index, flipped in first.items()}
    assert third == first
    shares = [of_flips(images, 1, rank=rank, world_size=2) for rank in range(2)]
    assert {**shares[0], **shares[1]} == second
    assert of_flips(images, 2, views=1) == first


def test_an_epoch_taken_up_again_and_processes_that_share_it_see_the_same_bits() -> None:
    names = ("alternating-flip", "random-resized-crop", "color-jitter", "rand-augment", "blur", "erasing")

    def batches(*more: str, **options: Any) -> ImageBatches:
        images = ImageSet(photographs(40, (3, 12, 12)), torch.zeros(40, dtype=torch.int64))
        augmentations = [make(name) for name in (*names, *more)]
        return ImageBatches(
            images, NORMALISATION, 10, seed=3, shuffle=True, augmentations=augmentations, classes=2, **options
        )

    for more in ((), ("mixup",)):
        whole = [batch.images for batch in batches(*more).epoch(1)]
        assert all(
            torch.equal(*pair) for pair in zip(whole[2:], (b.images for b in batches(*more).epoch(1, 2)), strict=True)
        )
        for rank in range(2):
            share = (batch.images for batch in batches(*more, rank=rank, world_size=2).epoch(1))
            assert all(torch.equal(ours[rank::2], theirs) for ours, theirs in zip(whole, share, strict=True))


def test_colours_are_changed_in_bytes_alone() -> None:
    with pytest.raises(SpecError, match="color-jitter changes colours of 8 bits: list it before rotation") as caught:
        DATASETS.parse({"name": "digits", "augmentations": ["flip", "rotation", "color-jitter"]})
    assert caught.value.path == ("augmentations", 2)
    for bits in (torch.int16, torch.uint8):
        waves = ImageSet(torch.zeros(4, 1, 1, 8, dtype=bits), torch.zeros(4, dtype=torch.int64))
        with pytest.raises(UserError, match="grey changes colours of 8 bits, and these are no such images"):
            ImageBatches(waves, NORMALISATION, 2, seed=0, shuffle=False, augmentations=[make("grey")])
    with pytest.raises(UserError, match="images of 1 or 3 channels, and these have 2"):
        colours.contrast(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), torch.ones(1))
