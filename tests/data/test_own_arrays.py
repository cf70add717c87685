"""Images of one's own, in MNIST's format and in NumPy's: what is read, and what is refused with which sentence."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasdistill.data.arrays import as_bytes, as_labels, in_planes, span_of
from nasdistill.data.base import DATASETS, DataSet, RawData
from nasdistill.data.idx_format import ALL_TYPES, parse_idx
from nasdistill.data.own import usual_role
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError, UserError
from tests.data import fakes

LABELS = np.arange(12) % 3
GREY = fakes.random_bytes(12, 5, 7)
COLOUR = fakes.random_bytes(12, 3, 5, 7)


def data(name: str, root: Path, **options: Any) -> DataSet:
    return DATASETS.parse({"name": name, "root": root, **options})


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def written(folder: Path, **arrays: np.ndarray) -> Path:
    """Files of MNIST's format; `__` in a name stands for `-`."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / name.replace("__", "-")).write_bytes(fakes.idx(array.astype(np.uint8)))
    return folder


def pixels(part: Any) -> np.ndarray:
    return np.asarray(part.images.numpy())


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("x_train", "train_images"),
        ("trainX", "train_images"),
        ("Train-Labels", "train_labels"),
        ("t10k-images-idx3-ubyte.gz", "test_images"),
        ("test-labels.idx1-ubyte", "test_labels"),
        ("valid_x", "val_images"),
        ("y", "train_labels"),
        ("X_test.npy", "test_images"),
        ("notes.txt", None),
    ],
)
def test_usual_names_say_what_they_hold(name: str, role: str | None) -> None:
    assert usual_role(name) == role


@pytest.mark.parametrize("packed", [False, True])
def test_mnists_format_of_any_size_and_classes(packed: bool, tmp_path: Path) -> None:
    folder = written(
        tmp_path / "own",
        train__images__idx3__ubyte=GREY,
        train__labels__idx1__ubyte=LABELS + 4,
        t10k__images__idx3__ubyte=GREY[:6],
        t10k__labels__idx1__ubyte=LABELS[:6] + 4,
    )
    if packed:
        for path in list(folder.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    source = data("idx", folder).read()
    assert np.array_equal(pixels(source.train), GREY[:, None])
    assert source.train.labels.tolist() == LABELS.tolist()
    assert len(source.test) == 6
    assert source.classes == ("4", "5", "6")


def test_other_file_names_are_given_and_colours_recognised(tmp_path: Path) -> None:
    folder = written(tmp_path / "own", pictures=COLOUR.transpose(0, 2, 3, 1), answers=LABELS)
    names = {"train_images": "pictures", "train_labels": "answers"}
    source = data("idx", folder, names=names, test=0.25, classes=["a", "b", "c"]).read()
    assert (len(source.train), len(source.test), source.train.shape) == (9, 3, (3, 5, 7))
    assert source.test.labels.tolist() == [0, 1, 2]
    assert source.classes == ("a", "b", "c")
    kept = {image.tobytes() for part in (source.train, source.test) for image in pixels(part)}
    assert kept == {image.tobytes() for image in COLOUR}


def test_the_packed_file_beside_the_unpacked_one_is_the_same(tmp_path: Path) -> None:
    folder = written(tmp_path / "own", train__images=GREY, train__labels=LABELS)
    (folder / "train-images.gz").write_bytes(gzip.compress(fakes.idx(GREY)))
    assert len(data("idx", folder, test=0.25).read().train) == 9


def test_types_of_mnists_format() -> None:
    for code, kind in ALL_TYPES.items():
        values = np.array([[1, 2, 100]], dtype=kind)
        header = bytes([0, 0, code, 2, 0, 0, 0, 1, 0, 0, 0, 3])
        assert parse_idx(header + values.tobytes(), ALL_TYPES).tolist() == [[1, 2, 100]]
        with pytest.raises(ValueError, match="bytes, "):
            parse_idx(header + values.tobytes() + b"x", ALL_TYPES)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_train": GREY, "y_train": LABELS, "x_test": GREY[:6], "y_test": LABELS[:6]},
        {
            "train_images": GREY,
            "train_labels": LABELS[:, None],
            "test_images": GREY[:6],
            "test_labels": LABELS[:6, None],
        },
        {
            "x_train": GREY / 255,
            "y_train": np.eye(3)[LABELS],
            "x_test": GREY[:6] / 255,
            "y_test": np.eye(3)[LABELS[:6]],
        },
        {"x_train": GREY.astype(float), "y_train": LABELS * 1.0, "x_test": GREY[:6] * 1.0, "y_test": LABELS[:6]},
        {"x_train": GREY[..., None], "y_train": LABELS, "x_test": GREY[:6, None], "y_test": LABELS[:6]},
    ],
    ids=["keras", "medmnist", "one-hot", "floats", "axes"],
)
def test_arrays_in_their_many_forms_are_one_data_set(arrays: dict[str, Any], tmp_path: Path) -> None:
    source = data("arrays", saved(tmp_path / "own.npz", **arrays)).read()
    assert np.array_equal(pixels(source.train), GREY[:, None])
    assert np.array_equal(pixels(source.test), GREY[:6, None])
    assert source.train.labels.tolist() == LABELS.tolist()
    assert source.classes == ("0", "1", "2")


def test_folders_of_npy_and_of_npz_files(tmp_path: Path) -> None:
    flat, parts = tmp_path / "flat", tmp_path / "parts"
    flat.mkdir()
    parts.mkdir()
    for name, array in {"X_train": GREY, "y_train": LABELS, "X_val": GREY[:3], "y_val": LABELS[:3]}.items():
        np.save(flat / name, array)
    saved(parts / "train.npz", images=GREY, labels=LABELS)
    saved(parts / "validation.npz", images=GREY[:3], labels=LABELS[:3])
    found: list[RawData] = [data("arrays", root, test=0.25).read() for root in (flat, parts)]
    for source in found:
        assert source.validation is not None
        assert (len(source.train), len(source.validation), len(source.test)) == (9, 3, 3)
    assert data("arrays", flat).fingerprint() != data("arrays", parts).fingerprint()


def test_texts_are_names_of_classes(tmp_path: Path) -> None:
    words = np.array(["wasp", "ant", "bee"])[LABELS]
    path = saved(tmp_path / "own.npz", images=GREY, labels=words)
    source = data("arrays", path).read()
    assert source.classes == ("ant", "bee", "wasp")
    prepared = load(data("arrays", path, classes=["wasp", "bee", "ant"], validation=0.3), 0)
    assert prepared.classes == ("wasp", "bee", "ant")


def test_the_fingerprint_is_that_of_the_arrays_that_are_read(tmp_path: Path) -> None:
    for place in ("here", "there"):
        np.savez(tmp_path / place, images=GREY, labels=LABELS)
    first, same = (data("arrays", tmp_path / f"{place}.npz").fingerprint() for place in ("here", "there"))
    saved(tmp_path / "there.npz", images=GREY, labels=LABELS[::-1])
    assert first == same != data("arrays", tmp_path / "there.npz").fingerprint()


def test_values_by_hand() -> None:
    assert as_bytes(np.array([[-1.0, 0.0, 1.0]]), (-1, 1)).tolist() == [[0, 128, 255]]
    assert as_bytes(np.array([[False, True]]), span_of(np.array([[False, True]]))).tolist() == [[0, 255]]
    assert [span_of(np.array(values)) for values in ([0, 1], [0.0, 1.0], [0.0, 2.0])] == [(0, 255), (0, 1), (0, 255)]


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 1, 4, 5), (2, 4, 5, 1)])
def test_grey_has_one_plane(shape: tuple[int, ...]) -> None:
    assert in_planes(np.zeros(shape), "auto").shape == (2, 1, 4, 5)


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        ({"images": GREY, "labels": LABELS[:11]}, {}, "12 train images and 11 labels"),
        ({"images": GREY}, {}, "nothing says which is train_labels"),
        ({"foo": GREY, "bar": LABELS}, {}, "'foo', 'bar', and nothing says which is train_images and train_labels"),
        ({"images": GREY, "labels": LABELS, "x_test": GREY}, {}, "nothing says which is test_labels"),
        ({"images": GREY, "x": GREY, "labels": LABELS}, {}, "both 'images' and 'x'"),
        ({"images": GREY, "labels": LABELS}, {"names": {"test_images": "imagse"}}, "did you mean 'images'"),
        ({"images": GREY.reshape(12, 35), "labels": LABELS}, {}, r"this one is \[12, 35\]"),
        ({"images": fakes.random_bytes(12, 3, 5, 3), "labels": LABELS}, {}, "both the second and the last"),
        ({"images": fakes.random_bytes(12, 4, 5, 2), "labels": LABELS}, {}, "neither the second nor the last"),
        ({"images": GREY - 100.5, "labels": LABELS}, {}, r"from -\d.* to .*data.values=\["),
        ({"images": GREY * 256.0, "labels": LABELS}, {"values": [0, 255]}, "image 0 has the value"),
        ({"images": GREY / 254.9, "labels": LABELS}, {}, r"from 0.* to 1\.000.*data.values=\["),
        ({"images": np.where(GREY > 250, np.nan, 1.0), "labels": LABELS}, {}, "no finite numbers"),
        ({"images": GREY, "labels": np.eye(3)[LABELS] / 2}, {}, "row 0 of the labels is not one-hot"),
        ({"images": GREY, "labels": LABELS + 0.5}, {}, "label 0 is 0.5"),
        ({"images": GREY, "labels": np.where(LABELS == 1, np.inf, 0)}, {}, "label 1 is inf"),
        ({"images": GREY, "labels": np.where(LABELS == 1, 2**64 - 1, 0).astype(np.uint64)}, {}, "label 1 is 18446"),
        ({"images": GREY, "labels": np.array(["ant", " ", "bee"])[LABELS]}, {}, "label 1 is ' ', which names no class"),
        ({"images": GREY, "labels": np.array([b"\xe8", b"\xe9", b"a"])[LABELS]}, {}, r"b'\\xe8' is no UTF-8 text"),
        ({"images": GREY, "labels": LABELS * 0}, {}, "all training labels are 0"),
        ({"images": GREY, "labels": LABELS}, {"classes": ["a", "b"]}, "hold 2, which is none of"),
        ({"images": GREY[:0], "labels": LABELS[:0]}, {}, "holds nothing"),
        (
            {"images": GREY, "labels": LABELS, "x_test": GREY / 255, "y_test": LABELS},
            {},
            r"images\) from 0 to 255, .*x_test\) from 0 to 1; .*data.values",
        ),
        (
            {"images": GREY, "labels": LABELS, "x_test": GREY[:, 1:], "y_test": LABELS},
            {},
            "training images of 1 x 5 x 7 and test images of 1 x 4 x 7",
        ),
        ({"images": GREY, "labels": LABELS, "x_test": GREY, "y_test": LABELS + 1}, {}, "test labels .* hold 3"),
    ],
)
def test_what_does_not_fit_is_refused(
    arrays: dict[str, Any], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        data("arrays", saved(tmp_path / "own.npz", **arrays), **options).read()


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    ragged = np.array([np.zeros(2), np.zeros(3)], dtype=object)
    (tmp_path / "flat").mkdir()
    np.save(tmp_path / "flat" / "images.npy", ragged)
    np.save(tmp_path / "flat" / "labels.npy", np.array([0, 1]))
    for root in (saved(tmp_path / "own.npz", images=ragged, labels=[0, 1]), tmp_path / "flat"):
        with pytest.raises(UserError, match="holds Python objects, which are never unpickled"):
            data("arrays", root).read()


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"hello", "no file of NumPy's"), (b"\x93NUMPY\x01\x00\xff", "it is damaged")]
)
def test_damaged_files_are_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "images.npy").write_bytes(content)
    with pytest.raises(UserError, match=rf"images\.npy: .*{sentence}"):
        data("arrays", tmp_path).read()


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"1,2\n", "this is no file of NumPy's"), (b"PK\3\4rest", "its end is missing")]
)
def test_a_file_alone_that_is_none_of_numpys_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(UserError, match=rf"own\.npz: .*{sentence}"):
        data("arrays", tmp_path / "own.npz").read()


def test_what_is_not_there(tmp_path: Path) -> None:
    for name, sentence in (("idx", "there is no folder"), ("arrays", "there is no .*npz file, or")):
        with pytest.raises(SpecError, match=sentence):
            data(name, tmp_path / "gone").fingerprint()
    (tmp_path / "train-images").write_bytes(b"text")
    (tmp_path / "train-labels").write_bytes(b"text")
    with pytest.raises(UserError, match="train-images: this is no file of MNIST's format"):
        data("idx", tmp_path).read()
    with pytest.raises(SpecError, match="white must be a larger value"):
        data("arrays", tmp_path, values=[1, 0])


def test_labels_of_one_hot_rows_name_all_columns() -> None:
    labels = as_labels(np.eye(4, dtype=np.uint8)[[0, 3]])
    assert (labels.values.tolist(), labels.columns) == ([0, 3], 4)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "svhn"])
def test_no_known_set_advises_to_delete_what_may_be_ones_own(name: str, tmp_path: Path) -> None:
    write = {"cifar10": fakes.write_cifar10, "svhn": fakes.write_svhn}.get(name)
    if write is None:
        fakes.write_idx_set(tmp_path, packed=False)
    else:
        write(tmp_path)
    with pytest.raises(UserError, match="not the original") as caught:
        data(name, tmp_path).read()
    assert "delete" not in str(caught.value)
    assert repr("idx" if "mnist" in name else "arrays") in str(caught.value)
