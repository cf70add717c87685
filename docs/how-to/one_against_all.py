"""Write a data set as PNG files in two class folders: one class against all others, which are several times as many.

python docs/how-to/one_against_all.py FOLDER --class 8 --times 10
python docs/how-to/one_against_all.py FOLDER --class 8 --times 10 --data mnist --root data --train 2200 --test 5500
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from nasdistill.data.base import DATASETS, Images, ImageSet


def one_against_all(images: Images, label: int, times: int, at_most: int | None, seed: int = 0) -> ImageSet:
    """Images of one class, with the label 1, and `times` as many of all others, with 0; as many as there are.

    Args:
        at_most: of both together.
    """
    if not isinstance(images, ImageSet):
        raise TypeError("the data set does not fit in memory")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen = images.labels[order] == label
    ones, others = order[chosen], order[~chosen]
    count = min(len(ones), len(others) // times, (at_most or len(images)) // (times + 1))
    of_both = images.subset(torch.cat([ones[:count], others[: times * count]]))
    return ImageSet(of_both.images, (of_both.labels == label).long())


def write(images: ImageSet, folder: Path, names: tuple[str, str]) -> None:
    """One PNG file for each image, in the folder of its class."""
    for number, (pixels, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
        path = folder / names[label] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="train/ and test/ are written below it")
    parser.add_argument("--class", dest="name", required=True, help="name of the rare class")
    parser.add_argument("--times", type=int, default=10, help="how many times as many images the others have")
    parser.add_argument("--data", default="digits", help="a data set of nasdistill; digits comes with scikit-learn")
    parser.add_argument("--root", type=Path, help="folder of its files")
    parser.add_argument("--train", type=int, help="training images at most")
    parser.add_argument("--test", type=int, help="test images at most")
    given = parser.parse_args()
    root = {} if given.root is None else {"root": given.root}
    source = DATASETS.parse({"name": given.data, **root}).read()
    label = source.classes.index(given.name)
    for part, images, at_most in (("train", source.train, given.train), ("test", source.test, given.test)):
        found = one_against_all(images, label, given.times, at_most)
        write(found, given.folder / part, ("others", given.name))
        print(f"{part}: {len(found)} images, {int(found.labels.sum())} of them of the class {given.name}")


if __name__ == "__main__":
    main()
