"""Augmentations against slicing of padded images, torchvision, scipy, and the distributions that the papers state."""

import itertools
from typing import Any

import numpy
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.stats import kstest
from torch.nn import functional
from torchvision.transforms.functional import InterpolationMode, rotate

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation, PixelAugmentation
from nasdistill.data.augmentations.geometric import rotated, zoomed
from nasdistill.data.augmentations.standard import shift
from nasdistill.errors import SpecError, UserError
from tests.data.moves import NoWaitingMoves

EACH = [
    {"name": "crop", "padding": 2},
    {"name": "crop", "border": "reflect"},
    {"name": "flip"},
    {"name": "cutout"},
    {"name": "rotation", "degrees": 30},
    {"name": "rotation", "border": "zero"},
    {"name": "shift", "amount": 0.3},
    {"name": "zoom", "proportional": False},
    {"name": "shear", "degrees": 30},
    {"name": "random-resized-crop"},
    {"name": "erasing"},
    {"name": "blur"},
    {"name": "color-jitter"},
    {"name": "grey", "probability": 0.5},
    {"name": "rand-augment"},
    {"name": "trivial-augment"},
]
INTERPOLATED = ("rotation", "zoom", "shear", "random-resized-crop", "blur")
SHAPES = [(3, 8, 8), (1, 5, 9), (2, 12, 7), (1, 1, 6)]
MIRRORED = {"nearest": "nearest", "reflect": "mirror"}


def make(spec: object) -> Augmentation:
    return AUGMENTATIONS.parse(spec)


def augmented(spec: object, images: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    augmentation = make(spec)
    height, width = images.shape[2:]
    return augmentation.apply(images, augmentation.sample(len(images), (height, width), chance))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, size: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=generator(1))


def images_for(spec: object, count: int) -> torch.Tensor:
    """Of 20x20 pixels, in the type that the augmentation needs."""
    images = noise(count, 20)
    return (images * 50 + 128).clamp(0, 255).to(torch.uint8) if isinstance(make(spec), PixelAugmentation) else images


@pytest.mark.parametrize(("border", "mode"), [("zero", "constant"), ("reflect", "reflect"), ("nearest", "replicate")])
def test_a_shift_is_a_slice_of_the_padded_image(border: str, mode: str) -> None:
    images = noise(25)
    top, left = torch.arange(25) // 5 - 2, torch.arange(25) % 5 - 2
    shifted = shift(images, top, left, border)
    padded = functional.pad(images, (2, 2, 2, 2), mode=mode)
    for n in range(25):
        y, x = int(top[n]) + 2, int(left[n]) + 2
        assert torch.equal(shifted[n], padded[n, :, y : y + 8, x : x + 8])


def test_crop_cuts_every_place_equally_often() -> None:
    # One bright pixel tells where the window lay.
    images = torch.zeros(25_000, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4] = 255
    cropped = augmented({"name": "crop", "padding": 2}, images, generator())
    times = (cropped > 0).sum(0)[0]
    assert int(times.sum()) == 25_000
    inside = times[2:7, 2:7]
    assert int(inside.sum()) == 25_000
    # 25 places, 1000 times each; the 99.99 % point of chi-squared with 24 degrees of freedom is 60.
    assert float(((inside - 1000.0) ** 2 / 1000).sum()) < 60


def test_flip_mirrors_whole_images_and_the_share_it_says() -> None:
    images = noise(4000)
    flipped = augmented({"name": "flip", "probability": 0.25}, images, generator())
    kept = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == torch.flip(images, (3,))).flatten(1).all(1)
    assert bool((kept ^ mirrored).all())
    assert abs(float(mirrored.float().mean()) - 0.25) < 0.035  # five deviations


def test_cutout_is_a_square_around_every_pixel_clipped_at_the_borders() -> None:
    images = torch.ones(20_000, 1, 6, 7)
    cut = augmented({"name": "cutout", "size": 4}, images, generator()) == 0
    expected = set()
    for y in range(6):
        for x in range(7):
            square = torch.zeros(6, 7, dtype=torch.bool)
            square[max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = True
            expected.add(tuple(square.flatten().tolist()))
    shapes, times = torch.unique(cut.flatten(1), dim=0, return_counts=True)
    assert {tuple(shape) for shape in shapes.tolist()} == expected
    # Every pixel is a centre equally often: 42 of them; 99.99 % point of chi-squared with 41 degrees of freedom is 86.
    mean = 20_000 / 42
    assert float(((times - mean) ** 2 / mean).sum()) < 86


def as_scipy(images: torch.Tensor, matrices: list[numpy.ndarray], border: str) -> torch.Tensor:
    """Each image read at matrix @ offset from its centre."""
    centre = (numpy.array(images.shape[2:]) - 1) / 2
    read = [
        [
            affine_transform(channel, matrix, centre - matrix @ centre, order=1, mode=MIRRORED[border])
            for channel in image.double().numpy()
        ]
        for image, matrix in zip(images, matrices, strict=True)
    ]
    return torch.from_numpy(numpy.array(read))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestInterpolated:
    @pytest.mark.parametrize("angle", [-170.0, -20.0, 7.5, 90.0])
    def test_a_rotation_is_that_of_torchvision(self, shape: tuple[int, int, int], angle: float) -> None:
        image = torch.randn(1, *shape, generator=generator())
        expected = rotate(image, angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(rotated(image, torch.tensor([angle]), "zero"), expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("border", MIRRORED)
    def test_a_rotation_with_a_border_is_that_of_scipy(self, shape: tuple[int, int, int], border: Any) -> None:
        images = torch.randn(3, *shape, generator=generator())
        angles = torch.tensor([-33.0, 12.0, 80.0])
        matrices = [numpy.array([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in angles.deg2rad()]
        expected = as_scipy(images, matrices, border)
        torch.testing.assert_close(rotated(images, angles, border).double(), expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("border", MIRRORED)
    def test_a_zoom_is_that_of_scipy(self, shape: tuple[int, int, int], border: Any) -> None:
        images = torch.randn(3, *shape, generator=generator())
        factors = torch.tensor([[0.7, 0.9], [1.3, 1.1], [1.9, 0.2]])
        expected = as_scipy(images, [numpy.diag(pair.numpy()) for pair in factors], border)
        torch.testing.assert_close(zoomed(images, factors, border).double(), expected, rtol=0, atol=1e-4)


def test_angles_and_factors_are_drawn_uniformly() -> None:
    angles = make({"name": "rotation", "degrees": 20}).sample(20_000, (8, 8), generator()) / 20
    factors = (make({"name": "zoom", "amount": 0.2}).sample(20_000, (8, 8), generator()) - 1)[:, 0] / 0.2
    for drawn in (angles, factors):
        assert float(drawn.abs().max()) <= 1 + 1e-6
        assert kstest(drawn.numpy(), "uniform", args=(-1, 2)).pvalue > 1e-4


def test_a_zoom_keeps_proportions_unless_told_otherwise() -> None:
    kept = make("zoom").sample(50, (8, 8), generator())
    assert torch.equal(kept[:, 0], kept[:, 1])
    sides = make({"name": "zoom", "proportional": False}).sample(2000, (8, 8), generator())
    assert abs(float(torch.corrcoef(sides.T)[0, 1])) < 0.1


def test_shifts_reach_every_place_within_their_share_of_each_side() -> None:
    drawn = make({"name": "shift", "amount": 0.2}).sample(5000, (10, 16), generator())
    assert {tuple(pair) for pair in drawn.tolist()} == set(itertools.product(range(-2, 3), range(-3, 4)))
    image = torch.zeros(1, 1, 10, 16, dtype=torch.uint8)
    image[0, 0, 0, 0] = 255
    moved = make("shift").apply(image, torch.tensor([[-2, -1]]))
    assert bool((moved[0, 0, :3, :2] == 255).all())
    assert int((moved > 0).sum()) == 6
    far = make({"name": "shift", "amount": 0.99, "border": "reflect"}).sample(500, (3, 4), generator())
    assert far.abs().amax(0).tolist() == [2, 3]  # what mirrors is smaller than the image
    with pytest.raises(UserError, match=r"shift by 0\.01 of images of 8x8 is less than a pixel"):
        make({"name": "shift", "amount": 0.01}).sample(4, (8, 8), generator())


@pytest.mark.parametrize("spec", EACH, ids=lambda spec: "-".join(map(str, spec.values())))
class TestEach:
    def test_the_generator_alone_decides(self, spec: dict[str, object]) -> None:
        images = images_for(spec, 16)
        torch.manual_seed(0)
        before = torch.get_rng_state()
        first = augmented(spec, images, generator(5))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first, augmented(spec, images, generator(5)))
        assert not torch.equal(first, augmented(spec, images, generator(6)))

    def test_images_of_a_batch_are_treated_independently(self, spec: dict[str, object]) -> None:
        same = images_for(spec, 1).expand(64, -1, -1, -1)
        views = torch.unique(augmented(spec, same, generator()).flatten(1), dim=0)
        assert len(views) == 2 if spec["name"] in ("flip", "grey") else len(views) > 16

    def test_a_share_of_a_batch_becomes_what_it_is_in_the_batch(self, spec: dict[str, object]) -> None:
        images = images_for(spec, 16)
        drawn = make(spec).sample(16, (20, 20), generator(3))
        share = make(spec).apply(images[1::2], drawn[1::2])
        assert torch.equal(share, augmented(spec, images, generator(3))[1::2])

    def test_the_input_is_left_alone(self, spec: dict[str, object]) -> None:
        images = images_for(spec, 16)
        copy = images.clone()
        augmented(spec, images, generator())
        assert torch.equal(images, copy)

    def test_channels_last_stays_and_changes_nothing(self, spec: dict[str, object]) -> None:
        images = images_for(spec, 16)
        views = augmented(spec, images.contiguous(memory_format=torch.channels_last), generator())
        assert views.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(views, augmented(spec, images, generator()))

    def test_bytes_are_treated_as_floats_are(self, spec: dict[str, object]) -> None:
        if make(spec).normalised or isinstance(make(spec), PixelAugmentation):
            pytest.skip("takes one of the two")
        images = torch.randint(256, (16, 3, 20, 20), dtype=torch.uint8, generator=generator())
        views = augmented(spec, images, generator())
        assert views.dtype == torch.uint8
        rounding = 0.501 if spec["name"] in INTERPOLATED else 0
        torch.testing.assert_close(views.float(), augmented(spec, images.float(), generator()), rtol=0, atol=rounding)

    def test_the_host_does_not_wait_for_the_device(self, spec: dict[str, object]) -> None:
        images = images_for(spec, 16).to("meta")
        with NoWaitingMoves():
            augmented(spec, images, generator())

    @pytest.mark.gpu
    def test_an_accelerator_gives_the_same_views(self, spec: dict[str, object]) -> None:
        images = images_for(spec, 16)
        views = augmented(spec, images.cuda(), generator()).cpu()
        error = 1e-4 if spec["name"] in INTERPOLATED else 0
        torch.testing.assert_close(views, augmented(spec, images, generator()), rtol=0, atol=error)


def test_padding_may_be_wider_than_the_image_unless_it_mirrors() -> None:
    images = noise(200, 3)
    cropped = augmented({"name": "crop", "padding": 4}, images, generator())
    assert (cropped == 0).flatten(1).all(1).any()
    with pytest.raises(UserError, match="cannot mirror 4 pixels of images that are 3 pixels wide or high"):
        augmented({"name": "crop", "padding": 4, "border": "reflect"}, images, generator())


def test_what_would_leave_nothing_of_the_images_is_refused() -> None:
    # a waveform is an image of one row: eight of nine crops would hold none of it, and a box of usual ratio one sample
    with pytest.raises(UserError, match="crop would move most images of 1x64 out of sight"):
        make("crop").sample(2, (1, 64), generator())
    for name in ("random-resized-crop", "erasing"):
        with pytest.raises(UserError, match="those of 1x64 have a single row or column"):
            make(name).sample(2, (1, 64), generator())
    with pytest.raises(UserError, match="a cutout of 16 pixels covers all of an image of 8x8"):
        make("cutout").sample(2, (8, 8), generator())
    waves = noise(40, 64)[:, :, :1]
    for name in ("shift", "cutout", {"name": "crop", "border": "nearest"}):
        assert (augmented(name, waves, generator()).flatten(1).std(1) > 0).all(), name


def test_wrong_options_are_refused() -> None:
    with pytest.raises(SpecError, match="multiple of 2"):
        make({"name": "cutout", "size": 5})
    with pytest.raises(SpecError, match="at most 1"):
        make({"name": "flip", "probability": 1.5})
    with pytest.raises(SpecError, match="at most 180"):
        make({"name": "rotation", "degrees": 200})
    with pytest.raises(SpecError, match="less than 1"):
        make({"name": "zoom", "amount": 1})
    with pytest.raises(SpecError, match="must be odd, got 4"):
        make({"name": "blur", "kernel_size": 4})
    with pytest.raises(SpecError, match=r"two positive numbers, the smaller first, got \[0.3, 0.2\]"):
        make({"name": "erasing", "scale": [0.3, 0.2]})
    with pytest.raises(SpecError, match=r"at most 1, got 1\.2"):
        make({"name": "random-resized-crop", "scale": [0.3, 1.2]})
    with pytest.raises(UserError, match="a blur of 9 pixels is too wide for images of 4x12"):
        make({"name": "blur", "kernel_size": 9}).sample(2, (4, 12), generator())
