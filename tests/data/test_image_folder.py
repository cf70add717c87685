"""Folders of pictures that Pillow wrote, read back."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import center_crop, pad, pil_to_tensor, resize

from nasdistill.data.base import DATASETS, ImageFiles, Images
from nasdistill.data.decoding import RESIZES, Broken, decode, decoded_batches
from nasdistill.data.preparation import at_size, load
from nasdistill.data.sets.image_folder import ImageFolder
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import NetworkSpec
from tests.data.fakes import random_bytes, write_class_folders, write_picture


def folder(root: Path, **options: Any) -> ImageFolder:
    dataset = DATASETS.parse({"name": "image-folder", "root": str(root), "workers": 0, **options})
    assert isinstance(dataset, ImageFolder)
    return dataset


def pixels(images: Images) -> torch.Tensor:
    return images.images  # type: ignore[union-attr]


def as_set(*parts: Images) -> set[tuple[tuple[int, ...], int]]:
    return {
        (tuple(image.flatten().tolist()), int(label))
        for part in parts
        for image, label in zip(pixels(part), part.labels, strict=True)
    }


class TestLayouts:
    def test_class_folders_are_split(self, tmp_path: Path) -> None:
        expected = set()
        for label, name in enumerate(("ant", "bee")):
            for k in range(10):
                picture = write_picture(tmp_path / name / "deep" / f"{k}.png", seed=10 * label + k)
                expected.add((tuple(picture.transpose(2, 0, 1).flatten().tolist()), label))
        source = folder(tmp_path, test=0.3).read()
        assert source.classes == ("ant", "bee")
        assert source.train.shape == (3, 6, 5)
        assert source.test.labels.bincount().tolist() == [3, 3]
        assert len(source.train) + len(source.test) == 20
        assert as_set(source.train, source.test) == expected

    def test_the_test_set_follows_its_own_seed_and_not_that_of_the_run(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path)
        first, second = (load(folder(tmp_path), seed) for seed in (0, 1))
        assert torch.equal(pixels(first.test), pixels(second.test))
        assert as_set(first.validation) != as_set(second.validation)
        assert as_set(folder(tmp_path, split_seed=1).read().test) != as_set(first.test)

    def test_train_and_test_folders_are_kept(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "train", 5)
        write_class_folders(tmp_path / "test", 3)
        data = load(folder(tmp_path, validation=0.2), 0)
        assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 2, 6]

    def test_a_val_folder_is_the_validation_set(self, tmp_path: Path) -> None:
        for part, count in (("train", 5), ("val", 4), ("test", 3)):
            write_class_folders(tmp_path / part, count)
        data = load(folder(tmp_path), 0)
        assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 8, 6]

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, classes=("plane", "train"))
        assert folder(tmp_path).read().classes == ("plane", "train")

    def test_hidden_and_other_files_are_left_out(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 5)
        (tmp_path / "ant" / "._000.png").write_bytes(b"what macOS leaves behind")
        (tmp_path / "ant" / "notes.txt").write_text("no image")
        (tmp_path / ".cache").mkdir()
        source = folder(tmp_path).read()
        assert len(source.train) + len(source.test) == 10


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda root: None, "no folder .*set data.root"),
        (lambda root: root.mkdir(), r"holds 0 class folder\(s\); at least 2"),
        (lambda root: write_class_folders(root, classes=("ant",)), r"holds 1 class folder\(s\): ant; at least 2"),
        (lambda root: [(root / name).mkdir(parents=True) for name in "ab"], "a holds no image .*png"),
        (lambda root: write_class_folders(root / "train"), "holds train/ but no test/"),
        (lambda root: write_class_folders(root / "test"), "holds test/ but no train/"),
        (
            lambda root: [
                write_class_folders(root / "train"),
                write_class_folders(root / "test", classes=("ant", "cat")),
            ],
            "test/cat is a class that .*train does not have",
        ),
        (
            lambda root: [write_class_folders(root), write_picture(root / "bee" / "x.png", size=(7, 5))],
            "000.png has 6x5 pixels but .*x.png 7x5; set data.size, e.g. data.size=6x5",
        ),
        (lambda root: write_class_folders(root, 1), "the class 'ant' has 1 training image"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, make: Any, reason: str) -> None:
    make(tmp_path / "root")
    with pytest.raises(UserError, match=reason):
        load(folder(tmp_path / "root"), 0)


class TestChannelsAndSize:
    def test_grey_pictures_have_one_channel(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, mode="L")
        assert folder(tmp_path).read().train.shape == (1, 6, 5)
        assert folder(tmp_path, channels=3).read().train.shape == (3, 6, 5)

    def test_one_picture_in_colour_makes_all_colour(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, mode="L")
        write_picture(tmp_path / "bee" / "x.png")
        assert folder(tmp_path).read().train.shape == (3, 6, 5)
        assert folder(tmp_path, channels=1).read().train.shape == (1, 6, 5)

    @pytest.mark.parametrize(("size", "expected"), [("4x8", (4, 8)), (4, (4, 4)), ([4, 8], (4, 8))])
    def test_sizes(self, tmp_path: Path, size: object, expected: tuple[int, int]) -> None:
        write_class_folders(tmp_path)
        write_picture(tmp_path / "bee" / "x.png", size=(17, 5))
        dataset = folder(tmp_path, size=size)
        assert dataset.read().train.shape[1:] == expected
        assert DATASETS.parse(dataset.spec()) == dataset

    @pytest.mark.parametrize("size", ["0x4", "4x", "large", -3, True, 1_000_000])
    def test_wrong_sizes(self, tmp_path: Path, size: object) -> None:
        with pytest.raises(SpecError, match=r"each from 1 to 999999|must be a number, got True"):
            folder(tmp_path, size=size)


class TestDecoding:
    @pytest.mark.parametrize("ending", ["png", "bmp", "gif", "webp", "tif", "ppm"])
    def test_lossless_formats_come_back(self, tmp_path: Path, ending: str) -> None:
        # Few colours, so that a palette holds them all.
        expected = (random_bytes(6, 5, 3) // 128 * 255).astype(np.uint8)
        options = {"lossless": True} if ending == "webp" else {}
        Image.fromarray(expected).save(tmp_path / f"x.{ending}", **options)
        assert np.array_equal(decode(tmp_path / f"x.{ending}", (3, 6, 5)).permute(1, 2, 0).numpy(), expected)

    def test_jpeg_comes_back_nearly(self, tmp_path: Path) -> None:
        expected = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
        Image.fromarray(expected).save(tmp_path / "x.jpg", quality=95)
        found = decode(tmp_path / "x.jpg", (3, 16, 16)).permute(1, 2, 0).numpy().astype(int)
        assert np.abs(found - expected).max() <= 3

    def test_grey_is_the_luma_of_colour(self, tmp_path: Path) -> None:
        picture = write_picture(tmp_path / "x.png").astype(float)
        luma = picture @ (0.299, 0.587, 0.114)  # ITU-R 601
        assert np.abs(decode(tmp_path / "x.png", (1, 6, 5))[0].numpy() - luma).max() <= 1

    def test_sixteen_bits_become_eight(self, tmp_path: Path) -> None:
        expected = random_bytes(6, 5)
        Image.fromarray(expected.astype(np.uint16) * 256 + 77).save(tmp_path / "x.png")
        assert np.array_equal(decode(tmp_path / "x.png", (1, 6, 5))[0].numpy(), expected)

    def test_floats_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "x.tif")
        with pytest.raises(Broken, match="neither 8 nor 16 bits"):
            decode(tmp_path / "x.tif", (1, 4, 4))

    def test_photographs_are_turned_upright(self, tmp_path: Path) -> None:
        expected = random_bytes(6, 5, 3)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        for name in ("ant", "bee"):
            (tmp_path / name).mkdir()
            for k in range(3):
                Image.fromarray(np.rot90(expected)).save(tmp_path / name / f"{k}.png", exif=exif)
        source = folder(tmp_path).read()
        assert np.array_equal(pixels(source.train)[0].permute(1, 2, 0).numpy(), expected)

    def test_resizing_averages(self, tmp_path: Path) -> None:
        # A checkerboard of single pixels shrinks to its mean, not to one of its colours.
        board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
        Image.fromarray(board).save(tmp_path / "x.png")
        small = decode(tmp_path / "x.png", (1, 8, 8)).float()
        assert (small - 127.5).abs().max() < 4

    def test_decompression_bombs_are_broken_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_picture(tmp_path / "x.png")
        for limit in (20, 10):  # Pillow warns beyond the limit, and raises beyond twice as much
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            with pytest.raises(Broken, match="more pixels than Pillow allows"):
                decode(tmp_path / "x.png", (3, 6, 5))

    def test_formats_that_start_programs_are_refused(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4)).save(tmp_path / "x.eps")
        (tmp_path / "x.eps").rename(tmp_path / "x.png")
        with pytest.raises(Broken, match="none of PNG, JPEG"):
            decode(tmp_path / "x.png", (3, 4, 4))


BREAKAGES = {
    "no image": lambda path: path.write_bytes(b"not an image"),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-60]),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("memory_mb", [4096, 1], ids=["kept", "streamed"])
@pytest.mark.parametrize("how", BREAKAGES)
class TestBroken:
    @pytest.fixture
    def root(self, tmp_path: Path, how: str) -> Path:
        write_class_folders(tmp_path, 160, size=(40, 40))
        BREAKAGES[how](tmp_path / "ant" / "133.png")
        return tmp_path

    def test_a_broken_file_stops_with_its_name(self, root: Path, memory_mb: int, workers: int) -> None:
        with pytest.raises(UserError, match=r"ant/133\.png is not a readable image .*data\.broken=skip"):
            load(folder(root, memory_mb=memory_mb, workers=workers), 0)

    def test_or_is_left_out_and_counted(
        self, root: Path, memory_mb: int, workers: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            data = load(folder(root, memory_mb=memory_mb, workers=workers, broken="skip"), 0)
        assert f"left out 1 broken of 320 images in {root}, the first is ant/133.png" in caplog.text
        assert sum(map(len, (data.train, data.validation, data.test))) == 319


def test_nothing_but_broken_files(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"all 2 images in .* are broken"):
        load(folder(tmp_path, broken="skip"), 0)


def test_what_does_not_fit_in_memory_is_streamed_and_otherwise_the_same(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 150, size=(40, 40))  # of 40x32 they take 1.1 MiB
    options = {"size": "40x32", "resize": "crop"}
    kept, streamed = (load(folder(tmp_path, memory_mb=limit, **options), 3) for limit in (2, 1))
    assert isinstance(streamed.train, ImageFiles)
    assert streamed.normalisation == kept.normalisation
    assert streamed.shape == kept.shape
    assert NetworkSpec.for_data("mlp-4", kept).model_dump()["resize"] == streamed.resize == "crop"
    for part in ("train", "validation", "test"):
        files, images = getattr(streamed, part), getattr(kept, part)
        assert torch.equal(files.labels, images.labels)
        (decoded,) = decoded_batches(files, [torch.tensor([7])])
        assert torch.equal(decoded[0], images.images[7])
    files, images = (at_size(each, (16, 16)).test for each in (streamed, kept))
    (decoded,) = decoded_batches(files, [torch.tensor([7])])
    difference = decoded[0].int() - pixels(images)[7].int()
    assert difference.abs().max() <= 1, "resized twice as well; Pillow and torch round differently"


@pytest.mark.parametrize("size", [(24, 12), (12, 24)], ids=["high", "wide"])
def test_images_of_other_proportions_are_squashed_cropped_or_padded(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = Image.fromarray(write_picture(tmp_path / "x.png", size=size))
    squashed, cropped, padded = (decode(tmp_path / "x.png", (3, 8, 8), policy).int() for policy in RESIZES)
    assert torch.equal(squashed, pil_to_tensor(resize(picture, [8, 8])).int())
    whole = resize(picture, [size[0] // 3, size[1] // 3])
    bars = [2, 0] if size[0] > size[1] else [0, 2]
    assert torch.equal(padded, pil_to_tensor(pad(whole, bars)).int())
    middle = pil_to_tensor(center_crop(resize(picture, 8), [8, 8])).int()
    assert int((cropped - middle).abs()[:, 1:-1, 1:-1].max()) <= 1  # theirs is cut when it is small


def test_the_fingerprint_follows_names_and_bytes_and_not_time(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 3)
    first = folder(tmp_path).fingerprint()
    os.utime(tmp_path / "ant" / "000.png", (1, 1))
    assert folder(tmp_path).fingerprint() == first
    (tmp_path / "ant" / "000.png").rename(tmp_path / "ant" / "9.png")
    renamed = folder(tmp_path).fingerprint()
    assert renamed != first
    with open(tmp_path / "ant" / "9.png", "ab") as file:
        file.write(b"\0")
    assert folder(tmp_path).fingerprint() not in (first, renamed)


def test_a_folder_must_be_named() -> None:
    with pytest.raises(SpecError, match="'root' is missing"):
        DATASETS.parse("image-folder")
