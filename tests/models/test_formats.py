"""Files that are given as weights and are something else, told for what they are."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nasdistill.errors import UserError
from nasdistill.models.formats import format_of


def _archive(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "")

    return write


def _script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize(
    ("name", "write", "what"),
    [
        ("script.pt", _script, "is a program of TorchScript, not a state dict; save its weights alone"),
        (
            "program.pt2",
            _archive("program/models/model.json", "program/archive_format", "program/data/weights/weight_0"),
            r"is a program of torch.export, not .*: torch.save\(model.state_dict\(\), 'weights.pth'\)",
        ),
        ("arrays.npz", lambda path: np.savez(path, a=np.zeros(2)), "is an archive of NumPy"),
        ("array.npy", lambda path: np.save(path, np.zeros(2)), "is a single array of NumPy"),
        ("sheet.xlsx", _archive("xl/workbook.xml"), "is an archive, but none of torch.save: it holds xl/workbook.xml"),
        ("net.onnx", lambda path: path.write_bytes(b"\x08\x0a\x12\x07"), "is a program of ONNX"),
        ("net.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "is a file of HDF5"),
        ("net.pth.gz", lambda path: path.write_bytes(b"\x1f\x8b\x08"), "is compressed by gzip"),
        ("net.pth", lambda path: path.write_text("<!DOCTYPE html><html>"), "is a web page"),
        ("net.bin", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "pointer of Git LFS"),
        (
            "model.safetensors.index.json",
            lambda path: path.write_text('{"metadata": {}, "weight_map": {"a": "2.st", "b": "1.st", "c": "1.st"}}'),
            r"lists the files that hold a network's weights \(1.st, 2.st\)",
        ),
        ("broken.index.json", lambda path: path.write_text('{"weight_map": ['), "is neither a safetensors file nor"),
    ],
)
def test_what_a_file_is_instead(tmp_path: Path, name: str, write: Callable[[Path], object], what: str) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError, match=what) as caught:
        format_of(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
