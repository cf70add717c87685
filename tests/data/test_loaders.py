"""Batches: normalised as the formula says, each image once an epoch, and the same bits wherever an epoch is entered."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.data.base import DATASETS, Data, ImageFiles, Images, ImageSet, Normalisation
from nasdistill.data.loaders import ImageBatches, evaluation_batches, training_batches
from nasdistill.data.preparation import load
from nasdistill.data.statistics import pixel_sums
from nasdistill.errors import UserError
from nasdistill.training.engine import Engine, EngineSettings
from tests.data.fakes import write_class_folders, write_picture
from tests.data.moves import NoWaitingMoves

AUGMENTATIONS_IN_USE = [AUGMENTATIONS.parse(spec) for spec in ("crop", "flip", {"name": "cutout", "size": 2})]
NORMALISATION = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def in_memory(count: int = 53) -> ImageSet:
    """The label of an image is its number."""
    generator = torch.Generator().manual_seed(0)
    return ImageSet(torch.randint(256, (count, 3, 6, 6), dtype=torch.uint8, generator=generator), torch.arange(count))


@pytest.fixture(params=["memory", "files", "files by workers"])
def batches_of(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A function that makes `ImageBatches` of 53 images, with the label of an image its number."""
    images: Images = in_memory()
    if request.param != "memory":
        pictures = [write_picture(tmp_path / f"{k}.png", seed=k, size=(6, 6)) for k in range(53)]
        pixels = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
        paths = tuple(tmp_path / f"{k}.png" for k in range(53))
        workers = 2 if request.param == "files by workers" else 0
        images = ImageFiles(paths, torch.arange(53), (3, 6, 6), *pixel_sums(pixels), workers)

    def make(**options: Any) -> ImageBatches:
        settings: dict[str, Any] = {"seed": 0, "shuffle": True, "augmentations": AUGMENTATIONS_IN_USE}
        return ImageBatches(images, NORMALISATION, 10, **{**settings, **options})

    return make


def equal(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for pair in zip(first, second, strict=True)
        for a, b in zip(*(batch[:3] for batch in pair), strict=True)
    )


def labels_of(batches: ImageBatches, epoch: int) -> list[int]:
    return [int(label) for _, labels, *_ in batches.epoch(epoch) for label in labels]


def test_pixels_are_normalised_as_the_formula_says() -> None:
    images = in_memory()
    batches = ImageBatches(images, NORMALISATION, 53, seed=0, shuffle=False)
    ((found, labels, *_),) = batches.epoch(0)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (NORMALISATION.mean, NORMALISATION.std))
    assert torch.allclose(found, (images.images / 255 - mean) / std, atol=1e-6)
    assert found.dtype == torch.float32
    assert labels.tolist() == list(range(53))


def test_an_epoch_has_each_image_once(batches_of: Any) -> None:
    batches = batches_of()
    assert (len(batches), batches.samples) == (6, 53)
    assert [len(labels) for _, labels, *_ in batches.epoch(0)] == [10] * 5 + [3]
    assert sorted(labels_of(batches, 0)) == list(range(53))


def test_the_last_batch_can_be_left_out(batches_of: Any) -> None:
    batches = batches_of(drop_last=True)
    assert (len(batches), batches.samples) == (5, 50)
    assert len(set(labels_of(batches, 0))) == 50


def test_a_long_epoch_has_each_image_as_often_as_any_other(batches_of: Any) -> None:
    batches = batches_of(epoch_images=120)
    assert (len(batches), batches.samples) == (12, 120)
    assert [len(labels) for _, labels, *_ in batches.epoch(0)] == [10] * 12
    order = labels_of(batches, 0)
    passes = [order[:53], order[53:106], order[106:]]
    assert [sorted(each) for each in passes[:2]] == [list(range(53))] * 2
    assert len(set(passes[2])) == 14  # of the third pass there is room for 120 - 2 * 53
    assert passes[0] != passes[1]
    assert order[:53] == labels_of(batches_of(), 0)
    assert labels_of(batches, 1) != order


def test_an_epoch_is_never_shorter_than_one_pass(batches_of: Any) -> None:
    assert equal(list(batches_of(epoch_images=20).epoch(3)), list(batches_of().epoch(3)))


def test_seed_and_epoch_decide_the_order(batches_of: Any) -> None:
    first = labels_of(batches_of(), 0)
    assert labels_of(batches_of(), 0) == first
    assert labels_of(batches_of(), 1) != first
    assert labels_of(batches_of(seed=1), 0) != first
    assert labels_of(batches_of(shuffle=False), 1) == list(range(53))


def test_an_epoch_taken_up_again_goes_on_with_the_same_bits(batches_of: Any) -> None:
    whole = list(batches_of().epoch(2))
    for start in (0, 1, 4, 6):
        assert equal(list(batches_of().epoch(2, start=start)), whole[start:])
    long = list(batches_of(epoch_images=120).epoch(2))
    assert equal(list(batches_of(epoch_images=120).epoch(2, start=7)), long[7:])


def test_augmentation_differs_from_epoch_to_epoch() -> None:
    batches = ImageBatches(in_memory(), NORMALISATION, 53, seed=0, shuffle=False, augmentations=AUGMENTATIONS_IN_USE)
    (first, *_), (second, *_) = next(batches.epoch(0)), next(batches.epoch(1))
    assert not torch.equal(first, second)


def test_global_random_numbers_are_neither_used_nor_changed(batches_of: Any) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(batches_of().epoch(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal(list(batches_of().epoch(0)), first)


def test_workers_and_memory_give_the_same_bits(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 160, size=(40, 40))
    spec = {"name": "image-folder", "root": str(tmp_path), "augmentations": ["crop", "flip"]}
    found = []
    for workers, memory_mb in ((0, 100), (0, 1), (2, 1)):
        data = load(DATASETS.parse({**spec, "workers": workers, "memory_mb": memory_mb}), 0)
        assert isinstance(data.train, ImageSet if memory_mb == 100 else ImageFiles)
        batches = ImageBatches(
            data.train, data.normalisation, 32, seed=5, shuffle=True, augmentations=data.augmentations
        )
        found.append(list(batches.epoch(0, start=3)))
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])


def test_augmentations_run_in_their_order_and_normalisation_just_before_one_that_needs_it() -> None:
    images = ImageSet(torch.full((64, 3, 6, 6), 255, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
    white = [(1 - m) / s for m, s in zip(NORMALISATION.mean, NORMALISATION.std, strict=True)]
    black = [-m / s for m, s in zip(NORMALISATION.mean, NORMALISATION.std, strict=True)]

    def colours(*specs: object) -> set[float]:
        augmentations = [AUGMENTATIONS.parse(spec) for spec in specs]
        batches = ImageBatches(images, NORMALISATION, 64, seed=0, shuffle=False, augmentations=augmentations)
        return {round(value, 4) for value in next(batches.epoch(0))[0][:, 0].unique().tolist()}

    cutout = {"name": "cutout", "size": 2}
    assert colours("flip") == {round(white[0], 4)}
    assert colours("crop") == {round(white[0], 4), round(black[0], 4)}
    assert colours("crop", cutout) == {round(white[0], 4), round(black[0], 4), 0.0}
    assert colours(cutout, "crop") == {round(white[0], 4), 0.0}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_images_come_in_the_memory_format(batches_of: Any, memory_format: torch.memory_format) -> None:
    images, *_ = next(batches_of(memory_format=memory_format).epoch(0))
    assert images.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, next(batches_of().epoch(0))[0])


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_share_each_batch_evenly(world_size: int) -> None:
    alone = ImageBatches(in_memory(), NORMALISATION, 10, seed=0, shuffle=True)
    shares = [
        list(ImageBatches(in_memory(), NORMALISATION, 10, seed=0, shuffle=True, rank=r, world_size=world_size).epoch(0))
        for r in range(world_size)
    ]
    for whole, *parts in zip(alone.epoch(0), *shares, strict=True):
        sizes = {len(labels) for _, labels, *_ in parts}
        assert sizes == {-(-len(whole[1]) // world_size)}
        together = [int(label) for _, labels, *_ in parts for label in labels]
        assert set(together) == set(whole[1].tolist())


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png")
    pixels = torch.zeros(2, 3, 6, 5, dtype=torch.uint8)
    paths = (tmp_path / "x.png", tmp_path / "gone.png")
    images = ImageFiles(paths, torch.arange(2), (3, 6, 5), *pixel_sums(pixels), workers=2)
    batches = ImageBatches(images, NORMALISATION, 1, seed=0, shuffle=False)
    with pytest.raises(UserError, match=r"gone\.png can no longer be read: .*No such file or directory"):
        list(batches.epoch(0))


class TestHelpers:
    @pytest.fixture(scope="class")
    def engine(self) -> Engine:
        return Engine(EngineSettings(accelerator="cpu", precision="32"))

    @pytest.fixture(scope="class")
    def data(self) -> Data:
        loaded: Data = load(DATASETS.parse({"name": "digits", "augmentations": [{"name": "crop", "padding": 1}]}), 0)
        return loaded

    def test_training_is_shuffled_and_augmented(self, data: Data, engine: Engine) -> None:
        batches = training_batches(data, 64, 0, engine)
        plain = training_batches(data, 64, 0, engine, augment=False)
        (views, labels, *_), (images, same_labels, *_) = next(batches.epoch(0)), next(plain.epoch(0))
        assert labels.tolist() == same_labels.tolist()
        assert labels.tolist() != data.train.labels[:64].tolist()
        assert not torch.equal(views, images)
        assert batches.samples == 1298

    def test_a_last_batch_of_one_image_is_left_out(self, data: Data, engine: Engine) -> None:
        assert training_batches(data, 1297, 0, engine).samples == 1297
        assert training_batches(data, 1296, 0, engine).samples == 1298
        assert training_batches(data, 100, 0, engine, epoch_images=2001).samples == 2000
        assert training_batches(data, 100, 0, engine, epoch_images=2002).samples == 2002

    def test_a_set_smaller_than_a_batch_is_one_batch(self, data: Data, engine: Engine) -> None:
        assert len(training_batches(data, 5000, 0, engine)) == 1

    def test_evaluation_sees_all_images_in_order_and_as_they_are(self, data: Data, engine: Engine) -> None:
        batches = evaluation_batches(data.test, data, engine, batch_size=100)
        assert [len(labels) for _, labels, *_ in batches.epoch(0)] == [100, 100, 100, 55]
        assert labels_of(batches, 0) == data.test.labels.tolist()
        assert equal(list(batches.epoch(0)), list(batches.epoch(9)))

    @pytest.mark.parametrize(("size", "count"), [((8, 8), 500), ((144, 144), 24), ((1, 8000), 64), ((900, 900), 1)])
    def test_large_images_are_scored_in_small_batches(
        self, size: tuple[int, int], count: int, data: Data, engine: Engine
    ) -> None:
        part = ImageSet(torch.zeros(1, 1, *size, dtype=torch.uint8).expand(600, -1, -1, -1), torch.zeros(600).long())
        batches = evaluation_batches(part, data, engine)
        assert len(next(batches.epoch(0)).images) == count
        assert batches.samples == 600


def test_the_host_does_not_wait_for_the_device() -> None:
    batches = ImageBatches(in_memory(), NORMALISATION, 10, seed=0, shuffle=True, device="meta")
    with NoWaitingMoves():
        assert len(list(batches.epoch(0))) == len(batches)


@pytest.mark.gpu
def test_an_accelerator_gives_the_same_batches() -> None:
    options: dict[str, Any] = {"seed": 0, "shuffle": True, "augmentations": AUGMENTATIONS_IN_USE}
    here = ImageBatches(in_memory(), NORMALISATION, 10, **options)
    there = ImageBatches(in_memory(), NORMALISATION, 10, device="cuda", **options)
    for (images, labels, *_), (moved, moved_labels, *_) in zip(here.epoch(0), there.epoch(0), strict=True):
        assert torch.allclose(images, moved.cpu(), atol=1e-6)
        assert torch.equal(labels, moved_labels.cpu())
