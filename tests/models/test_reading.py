"""Files that somebody else wrote: what is read, and what hostile or broken ones get."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from nasdistill.errors import UserError
from nasdistill.models.reading import find_tensors, read_state

MOST = 2**20
STATE = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2]), "half": torch.ones(2).half()}


def same(found: dict[str, torch.Tensor]) -> bool:
    return list(found) == list(STATE) and all(torch.equal(found[name], value) for name, value in STATE.items())


def test_a_file_of_torch_save_keeps_its_order_and_its_key(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, "model": STATE}, path)
    state = read_state(path, MOST)
    assert same(state.tensors)
    assert state.in_order


def test_the_older_format_of_torch_save(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert same(read_state(path, MOST).tensors)


def test_safetensors_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    save_file(STATE, path)
    state = read_state(path, MOST)
    assert {name: value.tolist() for name, value in state.tensors.items()} == {
        name: value.tolist() for name, value in STATE.items()
    }
    assert not state.in_order


def test_where_checkpoints_keep_their_weights() -> None:
    assert same(find_tensors(STATE))
    assert same(find_tensors({"state_dict": STATE, "ema": {"other": torch.zeros(1)}}))
    assert same(find_tensors({"model": {"module": STATE}}))
    assert same(find_tensors({"acc": 93.1, "student_weights": STATE, "optimizer": {"state": {}}}))
    tensors = find_tensors({"epoch": 4, **STATE})
    assert same(tensors)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "holds no state dict, but an object of type 'list'"),
        ({"epoch": 4}, "holds no tensors; its keys are 'epoch'"),
        ({}, "holds no tensors; its keys are none"),
        ({"one": STATE, "two": STATE}, "holds several state dicts, and none under a usual name: 'one', 'two'"),
    ],
)
def test_what_holds_no_state_dict(content: object, sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        find_tensors(content)


def test_names_that_would_steer_the_terminal_are_refused(tmp_path: Path) -> None:
    save_file({"\x1b[2J.weight": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(UserError, match="which a terminal cannot show"):
        read_state(tmp_path / "w", MOST)


class Payload:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("packed", [True, False])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path: Path, packed: bool) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    if packed:
        torch.save({"model": Payload(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(UserError, match="it names 'posix.mkdir', code" if packed else "pickles are not run"):
        read_state(path, MOST)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))  # noqa: S301  (the payload works: it is the reader that stopped it)
    assert trace.exists()


def test_a_tensor_that_grows_when_it_is_copied_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"w": torch.zeros(1).expand(10**10)}, path)
    with pytest.raises(UserError, match="more memory"):
        read_state(path, MOST)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bound the time by the clock alone")
def test_a_pickle_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "slow.pt"
    path.write_bytes(b"\x80\x02" + b"N" * 50_000_000)
    script = (
        "import sys; from pathlib import Path; from nasdistill.models import reading; reading.SECONDS = 1; "
        f"sys.exit(reading._main(Path({str(path)!r}), Path({str(tmp_path / 'out')!r}), 2**30))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGXCPU


def test_a_damaged_pickle(tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"cut.pt (is damaged|cannot be read)"):
        read_state(path, MOST)


def test_an_archive_that_unpacks_to_more_than_it_weighs(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)
    with pytest.raises(UserError, match=r"unpacks from [\d,]+ to 1,000,000 bytes"):
        read_state(path, MOST)


def _cut_archive(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:300])


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.mkdir(), "is no file of weights"),
        (lambda path: path.write_bytes(b""), "neither a safetensors file nor"),
        (lambda path: path.write_text("import os"), "neither a safetensors file nor"),
        (lambda path: path.write_bytes(save(STATE)[:-1]), "is damaged"),
        (lambda path: path.write_bytes(save(STATE).replace(b"F32", b"X32")), "is damaged"),
        (lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"), "its header claims"),
        (lambda path: path.write_bytes(struct.pack("<Q", 30) + b"{" * 30), "is damaged"),
        (_cut_archive, "is damaged"),
        (_sparse, "has 10,737,418,240 bytes, more than"),
    ],
)
def test_what_is_no_file_of_weights_is_refused_at_once(
    tmp_path: Path, write: Callable[[Path], object], sentence: str
) -> None:
    path = tmp_path / "weights"
    write(path)
    started = time.monotonic()
    with pytest.raises(UserError, match=sentence) as caught:
        read_state(path, MOST)
    assert time.monotonic() - started < 2
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
