"""SVHN as MNIST: against Pillow's own luma and filter, on files of SVHN's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasdistill.data.base import DATASETS
from nasdistill.data.files import Layout
from nasdistill.data.preparation import load
from nasdistill.data.sets.svhn import MD5, Svhn, SvhnAsMnist, grey_and_small
from nasdistill.errors import UserError
from tests.data import fakes


def by_pillow(image: fakes.Array) -> fakes.Array:
    """[3, H, W] to [28, 28], rounded twice: to whole luma, and to whole pixels."""
    grey = Image.fromarray(image.transpose(1, 2, 0)).convert("L")
    return np.asarray(grey.resize((28, 28), Image.Resampling.BILINEAR))


def test_the_files_of_svhn_become_images_like_those_of_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = fakes.write_svhn(tmp_path)
    monkeypatch.setattr(SvhnAsMnist, "layouts", (Layout("", dict.fromkeys(MD5)),))
    source = DATASETS.parse({"name": "svhn-as-mnist", "root": str(tmp_path)}).read()
    assert source.train.shape == source.test.shape == (1, 28, 28)
    assert (len(source.train), len(source.test)) == (40, 20)
    assert source.train.labels.tolist() == labels.tolist()
    theirs = np.stack([by_pillow(image) for image in images])
    assert abs(source.train.images[:, 0].numpy().astype(int) - theirs).max() <= 1


@pytest.mark.parametrize(("colour", "luma"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((9, 9, 9), 9)])
def test_a_plain_colour_becomes_its_luma(colour: tuple[int, int, int], luma: int) -> None:
    """0.299*255 = 76.2, 0.587*255 = 149.7, 0.114*255 = 29.1."""
    image = torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    assert grey_and_small(image).unique().tolist() == [luma]


def test_it_is_the_same_files_as_svhn(tmp_path: Path) -> None:
    assert (SvhnAsMnist.layouts, SvhnAsMnist.downloads) == (Svhn.layouts, Svhn.downloads)
    with pytest.raises(UserError, match=r"the files of 'svhn-as-mnist' are missing.*data\.download=true"):
        load(DATASETS.parse({"name": "svhn-as-mnist", "root": str(tmp_path)}), 0)
