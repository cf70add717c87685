"""Teacher outputs on disk belong to the views that they were heard of, survive kills and damage, or are refused."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nasdistill.data.augmentations import AUGMENTATIONS, Augmentation
from nasdistill.data.base import ImageSet, Normalisation
from nasdistill.data.loaders import ImageBatches
from nasdistill.distill import cached_outputs
from nasdistill.distill.cached_outputs import BatchesWithOutputs, rounded
from nasdistill.distill.objectives import Term
from nasdistill.distill.teacher import Teacher, TeacherEnsemble, unpacked
from nasdistill.errors import SpecError
from nasdistill.storage import leftovers, load_state
from nasdistill.training.batches import Batch
from nasdistill.training.engine import Engine, EngineSettings
from tests.children import POINTS, InAChild, killed_at
from tests.distill.nets import TwoMaps

SHAPE = (1, 6, 6)
IMAGES, BATCH, CLASSES = 50, 8, 3  # seven batches, the last of two images
NORMALISATION = Normalisation(mean=(0.5,), std=(0.25,))


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files for each view: of three batches, three, and one."""
    monkeypatch.setattr(cached_outputs, "SHARD_BATCHES", 3)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineSettings(accelerator="cpu", precision="32"))


class Counted(TeacherEnsemble):
    """Counts how often it is asked."""

    asked = 0

    def __call__(self, images: torch.Tensor) -> list[Any]:
        self.asked += 1
        return super().__call__(images)


def teacher_ensemble(engine: Engine, points: tuple[str, ...] = (), networks: tuple[nn.Module, ...] = ()) -> Counted:
    torch.manual_seed(0)
    teachers = [Teacher(network) for network in networks or (TwoMaps(channels=5),)]
    reading = Term(lambda student, teacher, batch: torch.zeros(()), teacher_points=points)
    places = range(1, 1 + len(teachers)) if len(teachers) > 1 else (0,)
    ensemble = Counted(teachers, [(reading, place) for place in places], SHAPE, NORMALISATION, "probabilities")
    for teacher in ensemble.teachers:
        engine.place(teacher.network)
    return ensemble


def views(engine: Engine, *augmentations: Augmentation, count: int | None = 2) -> ImageBatches:
    pixels = torch.randint(256, (IMAGES, *SHAPE), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return ImageBatches(
        ImageSet(pixels, torch.arange(IMAGES) % CLASSES),
        NORMALISATION,
        BATCH,
        seed=4,
        shuffle=True,
        augmentations=augmentations
        or (AUGMENTATIONS.parse({"name": "crop", "padding": 1}), AUGMENTATIONS.parse("flip")),
        memory_format=engine.memory_format,
        views=count,
    )


def taught(engine: Engine, folder: Path, said_by: TeacherEnsemble | None = None, **options: Any) -> BatchesWithOutputs:
    plain = options.pop("batches", None) or views(engine)
    return BatchesWithOutputs(
        plain, said_by or teacher_ensemble(engine), engine, folder, {"of": "test"}, **{"epochs": 5, **options}
    )


def heard(batches: BatchesWithOutputs, epochs: int = 2) -> list[Batch]:
    return [batch for epoch in range(epochs) for batch in batches.epoch(epoch)]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images)
        and a.taught.keys() == b.taught.keys()
        and all(torch.equal(a.taught[name], b.taught[name]) for name in a.taught)
        for a, b in zip(one, other, strict=True)
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_outputs_are_what_the_teacher_says_of_these_views(precision: Any, tmp_path: Path) -> None:
    """In five epochs of two views, first and second reader: numpy's half of the teacher's output on the very batch."""
    engine = Engine(EngineSettings(accelerator="cpu", precision=precision))
    for _reader in ("hears", "reads"):
        batches = taught(engine, tmp_path, teacher_ensemble(engine, ("first", "second")))
        network = teacher_ensemble(engine).teachers[0].network
        for epoch in range(5):
            plain = list(views(engine, count=None).epoch(epoch % 2))
            given = list(batches.epoch(epoch))
            assert len(plain) == len(given) == len(batches) == 7
            for view, batch in zip(plain, given, strict=True):
                assert torch.equal(view.images, batch.images)
                assert torch.equal(view.indices, batch.indices)
                with torch.no_grad(), engine.autocast():
                    first = network.get_submodule("first")(view.images)
                    expected = {"0/features/first": first, "0/features/second": network.get_submodule("second")(first)}
                    expected["0/logits"] = network(view.images)
                assert batch.taught.keys() == expected.keys()
                for name, tensor in batch.taught.items():
                    half = expected[name].float().numpy().astype(np.float16).astype(np.float32)
                    assert tensor.dtype == torch.float32
                    assert np.array_equal(tensor.numpy(), half)
                    assert tensor.stride() == expected[name].stride()


def test_each_view_is_heard_once(engine: Engine, tmp_path: Path) -> None:
    said_by = teacher_ensemble(engine)
    heard(taught(engine, tmp_path, said_by), epochs=5)
    assert said_by.asked == 2 + 2 * 7  # the rehearsal, and the batches of two views
    again = teacher_ensemble(engine)
    heard(taught(engine, tmp_path, again), epochs=5)
    assert again.asked == 0
    more = teacher_ensemble(engine)
    heard(taught(engine, tmp_path, more, batches=views(engine, count=3)), epochs=5)
    assert more.asked == 7  # a third view is added to the two that are there


def test_runs_that_share_a_folder_write_side_by_side(engine: Engine, tmp_path: Path) -> None:
    first = taught(engine, tmp_path)
    half = first.folder / f".0-0.{'a' * 32}.partial"
    half.touch()  # another process writes it
    second = taught(engine, tmp_path)
    pairs = list(zip(first.epoch(0), second.epoch(0), strict=True))
    assert same(*map(list, zip(*pairs, strict=True)))
    assert half.is_file()
    assert len(files(tmp_path)) == len({path.name.rpartition("-")[0] for path in files(tmp_path)})


def test_without_views_every_epoch_is_its_own(engine: Engine, tmp_path: Path) -> None:
    batches = taught(engine, tmp_path, batches=views(engine, count=None), epochs=3)
    assert batches.views == 3
    first, second, third = (list(batches.epoch(epoch)) for epoch in range(3))
    assert not any(same(one, other) for one, other in ((first, second), (second, third), (first, third)))


@pytest.mark.parametrize("start", range(8))
def test_an_epoch_is_taken_up_at_any_batch(start: int, engine: Engine, tmp_path: Path) -> None:
    """Whether or not the file that this batch is in was written before the kill."""
    whole = list(taught(engine, tmp_path / "whole").epoch(1))
    assert same(list(taught(engine, tmp_path / "whole").epoch(1, start)), whole[start:])
    batches = taught(engine, tmp_path / "fresh")
    assert same(list(batches.epoch(1, start)), whole[start:])
    assert same(list(batches.epoch(1)), whole)


def test_several_teachers_with_features(engine: Engine, tmp_path: Path) -> None:
    torch.manual_seed(1)
    said_by = teacher_ensemble(engine, ("second",), (TwoMaps(channels=5), TwoMaps(channels=7)))
    heard(taught(engine, tmp_path, said_by))
    for batch in heard(taught(engine, tmp_path, said_by)):
        for ours, theirs in zip(unpacked(batch.taught), said_by(batch.images), strict=True):
            torch.testing.assert_close(ours.logits, theirs.logits, rtol=2**-11, atol=1e-6)
            assert ours.features.keys() == theirs.features.keys()
            for point, feature in ours.features.items():
                torch.testing.assert_close(feature, theirs.features[point], rtol=2**-11, atol=1e-6)


def test_the_size_is_told_before_and_is_what_lies_on_the_disk(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    batches = taught(engine, tmp_path, teacher_ensemble(engine, ("second",)))
    assert batches.bytes_per_image == 2 * (CLASSES + 5 * 3 * 3)
    predicted = 2 * IMAGES * batches.bytes_per_image
    assert "2 views of 50 images take 9.6 kB, of which 0 B are there" in caplog.text
    assert files(tmp_path) == []
    heard(batches)
    assert len(files(tmp_path)) == 6
    assert sum(tensor.nbytes for path in files(tmp_path) for tensor in load_file(path).values()) == predicted
    assert predicted < sum(path.stat().st_size for path in files(tmp_path)) < predicted + 6 * 512
    taught(engine, tmp_path, teacher_ensemble(engine, ("second",)))
    assert "take 9.6 kB, of which 9.6 kB are there" in caplog.text


def test_files_hold_as_many_batches_as_fit(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_outputs, "SHARD_BYTES", 2 * BATCH * 2 * CLASSES)
    heard(taught(engine, tmp_path), epochs=1)
    assert [len(load_state(path)["0/logits"]) for path in files(tmp_path)] == [16, 16, 16, 2]
    monkeypatch.setattr(cached_outputs, "SHARD_BYTES", 1)
    heard(taught(engine, tmp_path / "least"), epochs=1)
    assert len(files(tmp_path / "least")) == 7


@pytest.mark.parametrize("how", ["bit", "cut", "gone", "index"])
def test_what_is_damaged_is_named_and_heard_again(
    how: str, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = heard(taught(engine, tmp_path))
    before = {path.name: path.read_bytes() for path in files(tmp_path)}
    path = files(tmp_path)[4] if how != "index" else next(tmp_path.glob("*/outputs.json"))
    if how == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data[:-9] if how == "cut" else data)
    said_by = teacher_ensemble(engine)
    assert same(heard(taught(engine, tmp_path, said_by)), whole)
    assert said_by.asked == (2 if how == "index" else 3)
    assert (path.name in caplog.text) == (how != "gone")
    assert {path.name: path.read_bytes() for path in files(tmp_path)} == before


def test_killed_at_every_point_of_filling_it_goes_on(in_a_child: InAChild, engine: Engine, tmp_path: Path) -> None:
    """Before each flush and each renaming: afterwards the very same files, and nothing heard twice that was whole."""
    heard(taught(engine, tmp_path / "whole"), epochs=1)
    unbroken = {path.name: path.read_bytes() for path in files(tmp_path / "whole")}
    kills = 0
    while True:
        out = tmp_path / str(kills)

        def attempt(out: Path = out, point: int = kills + 1) -> None:
            killed_at(point, POINTS)
            heard(taught(engine, out), epochs=1)

        status = in_a_child(attempt)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        there = len(files(out))
        said_by = teacher_ensemble(engine)
        heard(taught(engine, out, said_by), epochs=1)
        assert {path.name: path.read_bytes() for path in files(out)} == unbroken
        missing = sum([3, 3, 1][there:])
        assert said_by.asked in (missing, 2 + missing)  # the rehearsal, where no index was written
        (folder,) = out.iterdir()
        assert {path.name for path in folder.iterdir()} - {path.name for path in leftovers(folder)} == {
            *unbroken,
            "outputs.json",
        }
        kills += 1
    assert kills > 10


def test_values_beyond_half_precision_are_kept_in_single(engine: Engine, tmp_path: Path) -> None:
    assert rounded(torch.tensor([65504.0, -1.0])).dtype == torch.float16
    assert rounded(torch.tensor([65536.0, 1 / 3])).tolist() == torch.tensor([65536.0, 1 / 3]).tolist()
    loud = TwoMaps(channels=5)
    with torch.no_grad():
        loud.classifier.bias[1] = 1e6
    said_by = teacher_ensemble(engine, (), (loud,))
    for _reader in range(2):
        for batch in heard(taught(engine, tmp_path, said_by)):
            assert torch.equal(batch.taught["0/logits"], said_by(batch.images)[0].logits)


# -- what is refused ------------------------------------------------------------------------------------------------


class Careless(Augmentation):
    """Draws from the global generator, as plugins may."""

    registered_name = "careless"

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, 1, 1, 1)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return images + drawn


class Noisy(TwoMaps):
    """Says something else each time."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + 0.1 * torch.randn(len(images), CLASSES)


class Backwards(nn.Module):
    """Has a layer whose first dimension is not the images."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        across: torch.Tensor = self.inner(images.flatten(1).T)
        return across.T[:, :CLASSES]


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(SpecError) as error:
        taught(*arguments, **options)
    assert error.value.path == ("cache_outputs",)
    return error.value.problem


def test_augmentations_that_make_other_views_are_refused(engine: Engine, tmp_path: Path) -> None:
    careless = views(engine, AUGMENTATIONS.parse("flip"), Careless())
    said_by, state = teacher_ensemble(engine), torch.get_rng_state()
    problem = refusal(engine, tmp_path, said_by, batches=careless)
    assert "the augmentations (flip, careless) make another view of the same batch" in problem
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.glob("*/*"))


def test_a_teacher_that_draws_is_refused(engine: Engine, tmp_path: Path) -> None:
    problem = refusal(engine, tmp_path, teacher_ensemble(engine, (), (Noisy(),)))
    assert "output 0/logits differs by" in problem
    assert "draws random numbers" in problem


def test_an_output_without_images_is_refused(engine: Engine, tmp_path: Path) -> None:
    problem = refusal(engine, tmp_path, teacher_ensemble(engine, ("inner",), (Backwards(),)))
    assert "output 0/features/inner is [36, 8] for 8 images" in problem


def test_several_processes_are_refused(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "processes", 2)
    assert "2 processes share each batch" in refusal(engine, tmp_path)


def test_a_full_disk_is_refused_before_anything_is_written(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 bytes for two views of 50 images in 3 classes; what is there already needs no room."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(600, 1, 599))
    problem = refusal(engine, tmp_path)
    assert "2 views of 50 images take 600 B more in" in problem
    assert "599 B are free; fewer views need less" in problem
    assert not list(tmp_path.glob("*/*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(600, 0, 600))
    heard(taught(engine, tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(600, 600, 0))
    heard(taught(engine, tmp_path))
