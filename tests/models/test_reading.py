"""Files that somebody else wrote: what is read, and what hostile or broken ones get."""

from __future__ import annotations

import argparse
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
from nasdistill.models.reading import by_name, read_tensors

MOST = 2**20
STATE = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2]), "half": torch.ones(2).half()}


def same(found: dict[str, torch.Tensor], under: str = "") -> bool:
    names = [under + name for name in STATE]
    return list(found) == names and all(torch.equal(found[under + name], value) for name, value in STATE.items())


def test_a_file_of_torch_save_keeps_its_order_and_its_key(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, "model": STATE}, path)
    state = read_tensors(path, MOST)
    assert same(state.values, "model.")
    assert state.shapes == {"model.b.weight": (2, 3), "model.a.bias": (2,), "model.half": (2,)}
    assert state.dicts == dict.fromkeys(state.shapes, "model")
    assert state.in_order


def test_the_older_format_of_torch_save(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert same(read_tensors(path, MOST).values)


def test_safetensors_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    save_file(STATE, path)
    state = read_tensors(path, MOST)
    assert {name: value.tolist() for name, value in state.values.items()} == {
        name: value.tolist() for name, value in STATE.items()
    }
    assert not state.in_order


MOMENTS = {"state": {0: {"exp_avg": torch.zeros(2, 3)}}, "param_groups": [{"lr": 0.1}]}


def test_tensors_are_called_by_their_keys_and_those_of_optimisers_are_left_out() -> None:
    content = {"epoch": 4, "nets": [STATE, {3: torch.zeros(1)}], "optimizer": MOMENTS, "schedulers": (MOMENTS,)}
    tensors, dicts = by_name(content)
    assert list(dicts.items()) == [*((f"nets.0.{name}", "nets.0") for name in STATE), ("nets.1.3", "nets.1")]
    assert torch.equal(tensors["nets.0.b.weight"], STATE["b.weight"])
    assert by_name(STATE)[1] == dict.fromkeys(STATE, "")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "holds no state dict, but an object of type 'list'"),
        (torch.zeros(3), "holds a single tensor"),
        ({"epoch": 4}, "holds no tensors of a network; its keys are 'epoch'"),
        (MOMENTS, "holds no tensors of a network; its keys are 'state', 'param_groups'"),
        ({}, "holds no tensors of a network; its keys are none"),
        ({"a.b": torch.zeros(1), "a": {"b": torch.zeros(1)}}, "holds two tensors whose keys make the name 'a.b'"),
    ],
)
def test_what_holds_no_state_dict(content: object, sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        by_name(content)


def test_what_can_be_no_weights_is_told(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    odd = {
        "complex": torch.zeros(2, dtype=torch.complex128),
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.zeros(2, device="meta"),
    }
    torch.save({**odd, "scales": torch.tensor([0.5, 2.0]).to(torch.float8_e8m0fnu)}, path)
    found = read_tensors(path, MOST)
    assert found.unusable == {
        "complex": "is complex (torch.complex128)",
        "sparse": "is sparse (torch.sparse_coo)",
        "meta": "has no values (it was saved on the device 'meta')",
    }
    assert list(found.shapes) == [*odd, "scales"]
    assert found.values["scales"].tolist() == [0.5, 2.0]


def test_a_type_that_torch_lacks_is_told(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(header)) + header + bytes(3))
    assert read_tensors(tmp_path / "w", MOST).unusable == {"w": "is F6_E2M3, which torch has no numbers for"}


def test_names_that_would_steer_the_terminal_are_refused(tmp_path: Path) -> None:
    save_file({"\x1b[2J.weight": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(UserError, match="which a terminal cannot show"):
        read_tensors(tmp_path / "w", MOST)


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
    with pytest.raises(
        UserError,
        match=r"it names 'posix.mkdir', code .* torch.save\(model.state_dict\(\)" if packed else "pickles are not run",
    ):
        read_tensors(path, MOST)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))  # noqa: S301  (the payload works: it is the reader that stopped it)
    assert trace.exists()


def test_a_tensor_that_grows_when_it_is_copied_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"w": torch.zeros(1).expand(10**10)}, path)
    with pytest.raises(UserError, match="more memory"):
        read_tensors(path, MOST)


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
        read_tensors(path, MOST)


def test_code_in_a_file_of_an_old_torch_is_named(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"it names 'argparse.Namespace', code that nasdistill does not run"):
        read_tensors(tmp_path / "old.pth", MOST)


def test_an_archive_that_unpacks_to_more_than_it_weighs(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)
    with pytest.raises(UserError, match=r"unpacks from [\d,]+ to 1,000,000 bytes"):
        read_tensors(path, MOST)


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
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("import os"), "neither a safetensors file nor"),
        (lambda path: path.write_bytes(save(STATE)[:-1]), "is damaged"),
        (lambda path: path.write_bytes(save(STATE).replace(b"F32", b"X32")), "is damaged"),
        (lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"), "its header claims"),
        (lambda path: path.write_bytes(struct.pack("<Q", 30) + b"{" * 30), "is damaged"),
        (_cut_archive, "is damaged: its end is missing"),
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
        read_tensors(path, MOST)
    assert time.monotonic() - started < 2
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
