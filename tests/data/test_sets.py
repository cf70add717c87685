"""The readers of known files, on tiny files of the same formats, and on the real ones where they are at hand."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch

from nasdistill.data.base import DATASETS, DataSet, Images
from nasdistill.data.files import FileSet, Layout
from nasdistill.data.idx_format import parse_idx
from nasdistill.data.preparation import load
from nasdistill.errors import UserError
from tests.data import fakes


def known(name: str, root: Path, **options: Any) -> Any:
    return DATASETS.parse({"name": name, "root": str(root), **options})


@pytest.fixture
def any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept files that are not the originals."""
    for name in ("cifar10", "cifar100", "mnist", "fashion-mnist", "svhn"):
        component = DATASETS.get(name)
        assert issubclass(component, FileSet)
        layouts = tuple(Layout(layout.folder, dict.fromkeys(layout.md5)) for layout in component.layouts)
        monkeypatch.setattr(component, "layouts", layouts)


FAKES: dict[str, tuple[str, Callable[[Path], tuple[fakes.Array, fakes.Array]]]] = {
    "cifar10": ("cifar10", fakes.write_cifar10),
    "cifar10 binary": ("cifar10", fakes.write_cifar10_binary),
    "cifar100": ("cifar100", fakes.write_cifar100),
    "cifar100 binary": ("cifar100", fakes.write_cifar100_binary),
    "mnist": ("mnist", lambda root: fakes.write_idx_set(root / "MNIST" / "raw", packed=False)),
    "mnist packed": ("mnist", lambda root: fakes.write_idx_set(root / "MNIST" / "raw", packed=True)),
    "fashion-mnist": ("fashion-mnist", lambda root: fakes.write_idx_set(root / "FashionMNIST" / "raw", packed=True)),
    "files in the root itself": ("mnist", lambda root: fakes.write_idx_set(root, packed=False)),
    "svhn": ("svhn", fakes.write_svhn),
}


def pixels_of(images: Images) -> fakes.Array:
    return images.images.numpy()  # type: ignore[union-attr]


@pytest.mark.usefixtures("any_bytes")
@pytest.mark.parametrize("case", FAKES)
def test_images_and_labels_are_read_as_written(case: str, tmp_path: Path) -> None:
    name, write = FAKES[case]
    images, labels = write(tmp_path / "root")
    source = known(name, tmp_path / "root").read()
    assert np.array_equal(pixels_of(source.train), images.reshape(source.train.images.shape))
    assert source.train.labels.tolist() == labels.tolist()
    assert source.train.shape == ((3, 32, 32) if images.ndim == 4 else (1, 28, 28))
    assert len(source.classes) == (100 if name == "cifar100" else 10)
    assert source.test.images.dtype == torch.uint8
    assert source.test.labels.dtype == torch.int64


@pytest.mark.usefixtures("any_bytes")
def test_class_names_come_from_the_files(tmp_path: Path) -> None:
    fakes.write_cifar10(tmp_path / "python")
    fakes.write_cifar10_binary(tmp_path / "binary")
    names = tuple(f"class{k}" for k in range(10))
    assert known("cifar10", tmp_path / "python").read().classes == names
    assert known("cifar10", tmp_path / "binary").read().classes == names


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion-mnist", "svhn"])
def test_missing_files_say_where_they_were_looked_for_and_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(known(name, tmp_path), 0)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert repr(name) in message
    assert "data.download=true" in message
    with pytest.raises(UserError, match="missing"):
        known(name, tmp_path).fingerprint()


def test_files_that_are_not_the_original_are_named(tmp_path: Path) -> None:
    fakes.write_cifar10(tmp_path)
    with pytest.raises(UserError, match=r"data_batch_1 is damaged or not the original: its MD5 is \w{32}"):
        known("cifar10", tmp_path).read()


@pytest.mark.usefixtures("any_bytes")
class TestDamage:
    """Files that the MD5 does not guard."""

    def cifar10(self, root: Path, content: object) -> None:
        import pickle

        fakes.write_cifar10(root)
        (root / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(content, protocol=2))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ([1, 2], "holds no dictionary"),
            ({"labels": [1]}, "3072 bytes for each label"),
            ({"labels": [1, 2], "data": np.zeros((1, 3072), np.uint8)}, "3072 bytes for each label"),
            ({"labels": [1], "data": np.zeros((1, 100), np.uint8)}, "3072 bytes for each label"),
            ({"labels": ["x"], "data": np.zeros((1, 3072), np.uint8)}, "no list 'labels' of numbers"),
            ({"labels": [10], "data": np.zeros((1, 3072), np.uint8)}, "go from 0 to 10, for 10 classes"),
            ({"labels": [0.5], "data": np.zeros((1, 3072), np.uint8)}, "instruction BINFLOAT"),
        ],
    )
    def test_a_batch_of_cifar(self, tmp_path: Path, content: object, reason: str) -> None:
        self.cifar10(tmp_path, content)
        with pytest.raises(UserError, match=reason):
            known("cifar10", tmp_path).read()

    def test_a_cut_binary_batch(self, tmp_path: Path) -> None:
        fakes.write_cifar10_binary(tmp_path)
        path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(UserError, match=r"data_batch_3\.bin is cut: its 61459 bytes are no multiple of 3073"):
            known("cifar10", tmp_path).read()

    def test_cut_idx_files(self, tmp_path: Path) -> None:
        fakes.write_idx_set(tmp_path / "plain", packed=False)
        path = tmp_path / "plain" / "t10k-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(UserError, match="announces 15680 bytes, 15679 follow"):
            known("mnist", tmp_path / "plain").read()
        fakes.write_idx_set(tmp_path / "packed", packed=True)
        path = tmp_path / "packed" / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(UserError, match=r"ubyte\.gz is damaged"):
            known("mnist", tmp_path / "packed").read()

    def test_idx_files_that_do_not_belong_together(self, tmp_path: Path) -> None:
        fakes.write_idx_set(tmp_path, packed=False)
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(fakes.idx(np.zeros(59, np.uint8)))
        with pytest.raises(UserError, match="one label below 10 for each image"):
            known("mnist", tmp_path).read()

    def test_svhn(self, tmp_path: Path) -> None:
        from scipy.io import savemat

        fakes.write_svhn(tmp_path)
        path = tmp_path / "train_32x32.mat"
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(UserError, match=r"train_32x32\.mat is not a file of SVHN"):
            known("svhn", tmp_path).read()
        savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[0], [1]])})
        with pytest.raises(UserError, match="not 1 to 10"):
            known("svhn", tmp_path).read()
        savemat(path, {"X": np.zeros((32, 32, 2), np.uint8), "y": np.array([[1], [1]])})
        with pytest.raises(UserError, match=r"X is uint8 of shape \(32, 32, 2\)"):
            known("svhn", tmp_path).read()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begin"),
        (b"\0\0\x09\x01\0\0\0\x01a", "begin"),
        (b"\0\0\x08\x02\0\0\0\x01", "inside its header"),
        (b"\0\0\x08\x01\0\0\0\x02a", "announces 2 bytes, 1 follow"),
    ],
)
def test_what_is_no_idx_file(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_idx(data)


@pytest.mark.usefixtures("any_bytes")
def test_the_fingerprint_follows_bytes_and_not_time_or_place(tmp_path: Path) -> None:
    for root in ("here", "there"):
        fakes.write_cifar10(tmp_path / root)
    first = known("cifar10", tmp_path / "here").fingerprint()
    assert known("cifar10", tmp_path / "there").fingerprint() == first
    path = tmp_path / "here" / "cifar-10-batches-py" / "test_batch"
    os.utime(path, (1, 1))
    assert known("cifar10", tmp_path / "here").fingerprint() == first
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    assert known("cifar10", tmp_path / "here").fingerprint() != first


def test_no_images_are_none_and_say_so() -> None:
    """What stages that need no images have; it has no bytes either."""
    none = DATASETS.parse("none")
    assert not none.has_images
    assert DATASETS.parse("digits").has_images
    assert none.fingerprint() == DATASETS.parse("none").fingerprint()
    for read in (none.read, lambda: load(none, 0)):
        with pytest.raises(
            UserError, match="this stage works on images, but the data set is 'none'; name one with `data`"
        ):
            read()


class TestDigits:
    def test_all_images_are_those_of_scikit_learn(self) -> None:
        source = DATASETS.parse("digits").read()
        theirs = sklearn.datasets.load_digits()
        expected = {
            (round_half_even(row), label)
            for row, label in zip(theirs.data.tolist(), theirs.target.tolist(), strict=True)
        }
        found = {
            (tuple(image.flatten().tolist()), label)
            for part in (source.train, source.test)
            for image, label in zip(part.images, part.labels.tolist(), strict=True)  # type: ignore[union-attr]
        }
        assert found == expected
        assert len(source.train) + len(source.test) == 1797

    def test_a_fifth_of_each_class_is_tested(self) -> None:
        source = DATASETS.parse("digits").read()
        sizes = np.bincount(sklearn.datasets.load_digits().target)
        assert source.test.labels.bincount().tolist() == [size // 5 for size in sizes]

    def test_train_validation_and_test_share_no_place(self) -> None:
        first, second = (load(DATASETS.parse("digits"), seed) for seed in (0, 1))
        assert (len(first.train), len(first.validation), len(first.test)) == (1298, 144, 355)
        assert torch.equal(first.test.images, second.test.images)  # type: ignore[union-attr]
        assert not torch.equal(first.validation.images, second.validation.images)  # type: ignore[union-attr]
        assert first.shape == (1, 8, 8)

    def test_the_fingerprint_is_that_of_the_embedded_file(self) -> None:
        dataset: DataSet = DATASETS.parse("digits")
        assert dataset.fingerprint() == dataset.fingerprint()
        assert len(dataset.fingerprint()) == 64


def round_half_even(row: list[float]) -> tuple[int, ...]:
    """Counts 0..16 as 0..255."""
    return tuple(round(count * 255 / 16) for count in row)


ROOT = Path(os.environ.get("NASDISTILL_DATA", "."))


@pytest.mark.shared
class TestRealFiles:
    """Published means and deviations of the whole training sets."""

    @pytest.mark.parametrize(
        ("name", "sizes", "mean", "std"),
        [
            ("cifar10", (50_000, 10_000), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ("mnist", (60_000, 10_000), (0.1307,), (0.3081,)),
            ("fashion-mnist", (60_000, 10_000), (0.2860,), (0.3530,)),
        ],
    )
    def test_published_numbers(
        self, name: str, sizes: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        from nasdistill.data.statistics import computed_normalisation

        source = known(name, ROOT).read()
        assert (len(source.train), len(source.test)) == sizes
        assert source.test.labels.bincount().tolist() == [1000] * 10 or name == "mnist"
        found = computed_normalisation(source.train)
        assert found.mean == pytest.approx(mean, abs=1e-4)
        assert found.std == pytest.approx(std, abs=1e-4)

    def test_cifar10_is_what_torchvision_reads(self) -> None:
        from torchvision.datasets import CIFAR10

        theirs = CIFAR10(str(ROOT), train=False)
        ours = known("cifar10", ROOT).read()
        assert np.array_equal(pixels_of(ours.test), theirs.data.transpose(0, 3, 1, 2))
        assert ours.test.labels.tolist() == theirs.targets
        assert list(ours.classes) == theirs.classes
