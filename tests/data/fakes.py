"""Tiny files in the formats of the known data sets, written by other libraries than those that read them."""

import gzip
import pickle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Array = np.ndarray


def random_bytes(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_cifar10(root: Path, per_file: int = 20) -> tuple[Array, Array]:
    """Six batches in the version for Python; returns the training images, [N, 3, 32, 32], and labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images, labels = [], []
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        pixels = random_bytes(per_file, 3072, seed=number)
        of_file = [k % 10 for k in range(per_file)]
        batch = {"batch_label": name, "labels": of_file, "data": pixels, "filenames": ["a.png"] * per_file}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        images.append(pixels.reshape(-1, 3, 32, 32))
        labels.append(of_file)
    names = {"label_names": [f"class{k}" for k in range(10)], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    return np.concatenate(images[:5]), np.concatenate(labels[:5])


def write_cifar10_binary(root: Path, per_file: int = 20) -> tuple[Array, Array]:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    images, labels = [], []
    for number, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
        pixels = random_bytes(per_file, 3, 32, 32, seed=number)
        of_file = [k % 10 for k in range(per_file)]
        rows = (bytes([label]) + image.tobytes() for label, image in zip(of_file, pixels, strict=True))
        (folder / name).write_bytes(b"".join(rows))
        images.append(pixels)
        labels.append(of_file)
    (folder / "batches.meta.txt").write_text("".join(f"class{k}\n" for k in range(10)) + "\n")
    return np.concatenate(images[:5]), np.concatenate(labels[:5])


def write_cifar100(root: Path) -> tuple[Array, Array]:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, count in (("train", 300), ("test", 100)):
        pixels = random_bytes(count, 3072)
        fine = [k % 100 for k in range(count)]
        batch = {"fine_labels": fine, "coarse_labels": [k // 5 for k in fine], "data": pixels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {"fine_label_names": [f"fine{k}" for k in range(100)], "coarse_label_names": ["coarse"] * 20}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return random_bytes(300, 3072).reshape(-1, 3, 32, 32), np.arange(300) % 100


def write_cifar100_binary(root: Path) -> tuple[Array, Array]:
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    for name, count in (("train.bin", 300), ("test.bin", 100)):
        pixels = random_bytes(count, 3072)
        rows = (bytes([k % 100 // 5, k % 100]) + pixels[k].tobytes() for k in range(count))
        (folder / name).write_bytes(b"".join(rows))
    (folder / "fine_label_names.txt").write_text("".join(f"fine{k}\n" for k in range(100)))
    return random_bytes(300, 3072).reshape(-1, 3, 32, 32), np.arange(300) % 100


def idx(array: Array) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + array.tobytes()


def write_idx_set(folder: Path, packed: bool) -> tuple[Array, Array]:
    """Four files of MNIST's format; returns the training images, [N, 28, 28], and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 60), ("t10k", 20)):
        for kind, array in (
            ("images-idx3", random_bytes(count, 28, 28)),
            ("labels-idx1", (np.arange(count) % 10).astype(np.uint8)),
        ):
            path = folder / f"{name}-{kind}-ubyte"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))
    return random_bytes(60, 28, 28), np.arange(60) % 10


def write_svhn(folder: Path) -> tuple[Array, Array]:
    """Both files; returns the training images, [N, 3, 32, 32], and the digits that they show."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 40), ("test", 20)):
        images = random_bytes(count, 3, 32, 32)
        written = np.arange(count) % 10
        written[written == 0] = 10
        content = {"X": images.transpose(2, 3, 1, 0), "y": written[:, None].astype(np.uint8)}
        savemat(folder / f"{name}_32x32.mat", content)
    return random_bytes(40, 3, 32, 32), np.arange(40) % 10


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> Array:
    """A random picture of (height, width); returns its pixels, [H, W] or [H, W, 3]."""
    shape = size if mode == "L" else (*size, 3)
    pixels = random_bytes(*shape, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path)
    return pixels


def write_class_folders(
    root: Path, per_class: int = 10, classes: tuple[str, ...] = ("ant", "bee"), **kind: object
) -> None:
    for number, name in enumerate(classes):
        for k in range(per_class):
            write_picture(root / name / f"{k:03d}.png", seed=100 * number + k, **kind)  # type: ignore[arg-type]
