from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import resource
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasdistill import storage
from nasdistill.errors import DamagedFile
from nasdistill.storage import (
    files_below,
    load_state,
    publish_folder,
    read_json,
    read_sealed,
    remove_leftovers,
    save_state,
    sha256_of,
    sha256_of_json,
    write_bytes,
    write_json,
    write_sealed,
)

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# Hashes


def test_hashes_are_the_published_ones(tmp_path: Path) -> None:
    # FIPS 180-2, appendix B: SHA-256 of "abc".
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_json({"b": 1, "a": [1, 2]}) == hashlib.sha256(b'{"a":[1,2],"b":1}').hexdigest()


# Writing: what happens, in which order


class Calls:
    """Records the system calls that matter and, if told to, makes one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.fail_at: str | None = None
        self.problem = errno.ENOSPC
        real_fsync, real_replace, real_open = os.fsync, os.replace, open

        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
            self._do(f"fsync {kind} {self._name(path)}", lambda: real_fsync(descriptor))

        def replace(source: Any, target: Any) -> None:
            text = f"rename {self._name(source)} to {self._name(target)}"
            self._do(text, lambda: real_replace(source, target))

        def opened(path: Any, mode: str = "r", **options: Any) -> Any:
            file = real_open(path, mode, **options)
            return _Recorded(file, self, self._name(path)) if "w" in mode else file

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(storage, "open", opened, raising=False)

    def _name(self, path: Any) -> str:
        name = Path(path).name
        return "beside" if name.endswith(".partial") else "retired" if name.endswith(".retired") else name

    def _do(self, what: str, act: Callable[[], Any]) -> Any:
        if self.fail_at is not None and what.startswith(self.fail_at):
            raise OSError(self.problem, os.strerror(self.problem))
        self.done.append(what)
        return act()


class _Recorded:
    """A file opened for writing."""

    def __init__(self, file: Any, calls: Calls, name: str) -> None:
        self._file, self._calls, self._name = file, calls, name

    def __enter__(self) -> _Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._calls._do(f"write {self._name}", lambda: self._file.write(data))

    def flush(self) -> None:
        self._calls._do(f"flush {self._name}", self._file.flush)

    def fileno(self) -> int:
        return int(self._file.fileno())


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names descriptors by /proc")


@needs_proc
def test_a_file_is_written_flushed_synced_renamed_and_its_folder_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    write_bytes(tmp_path / "run" / "a.json", b"new")
    assert calls.done == [
        "write beside", "flush beside", "fsync file beside", "rename beside to a.json", "fsync folder run",
    ]  # fmt: skip
    assert (tmp_path / "run" / "a.json").read_bytes() == b"new"


@needs_proc
def test_a_folder_is_synced_whole_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = tmp_path / "work" / "prepared"
    (prepared / "deep").mkdir(parents=True)
    (prepared / "a").write_text("a")
    (prepared / "deep" / "b").write_text("b")
    calls = Calls(monkeypatch)
    publish_folder(prepared, tmp_path / "artifacts" / "place")
    *synced, renamed, last = calls.done
    assert sorted(synced) == ["fsync file a", "fsync file b", "fsync folder deep", "fsync folder prepared"]
    assert synced[-1] == "fsync folder prepared"
    assert (renamed, last) == ("rename prepared to place", "fsync folder artifacts")


@needs_proc
@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("moment", ["write", "flush", "fsync file", "rename"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, problem: int
) -> None:
    path = tmp_path / "results.json"
    write_bytes(path, b"old")
    calls = Calls(monkeypatch)
    calls.fail_at, calls.problem = moment, problem
    with pytest.raises(OSError, match=os.strerror(problem)):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["results.json"]


@needs_proc
@pytest.mark.parametrize("moment", ["fsync file", "fsync folder prepared", "rename place", "rename prepared"])
def test_a_failed_publication_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    place, prepared = tmp_path / "place", tmp_path / "prepared"
    for folder, text in ((place, "old"), (prepared, "new")):
        folder.mkdir()
        (folder / "a").write_text(text)
    calls = Calls(monkeypatch)
    calls.fail_at = moment
    with pytest.raises(OSError, match="No space left"):
        publish_folder(prepared, place)
    assert (place / "a").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["place", "prepared"]
    calls.fail_at = None
    publish_folder(prepared, place)
    assert (place / "a").read_text() == "new"
    assert os.listdir(tmp_path) == ["place"]


def test_a_real_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files, as a quota sets it, in a process of its own."""
    path = tmp_path / "state"
    path.write_bytes(b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path; from nasdistill.storage import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_bytes(Path(sys.argv[1]), bytes(100_000))"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".a.json.0123.partial").write_text("half")
    (tmp_path / ".place.0123.retired").mkdir()
    (tmp_path / ".place.0123.retired" / "a").write_text("old")
    (tmp_path / "a.json").write_text("whole")
    (tmp_path / ".hidden").write_text("of the user")
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.json"]


def test_files_come_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b/c", "a", "b/a"):
        write_bytes(tmp_path / name, b"")
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == ["a", "b/a", "b/c"]


# JSON


def test_json_comes_back_and_not_a_number_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None, "café"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "café"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", math.nan)
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "café"]}


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": 1} x', b"\xff\xfe", b"[" * 200_000, b"1" * 5000])
def test_what_is_no_json_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DamagedFile, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


CONTENT = {"accuracy": 97.22, "stage": "student", "nested": {"1": [True, None]}, "epochs": 12}


def test_sealed_content_comes_back_with_keys_as_json_has_them(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", {**CONTENT, "by number": {10: "a", 9: "b"}})
    assert read_sealed(tmp_path / "a.json") == {**CONTENT, "by number": {"10": "a", "9": "b"}}


@quick
@given(st.data())
def test_a_changed_or_cut_sealed_file_is_never_taken_for_another(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged(whole)))
    if same_json(path.read_bytes(), whole):  # a changed space between two values changes no content
        assert read_sealed(path) == CONTENT
    else:
        with pytest.raises(DamagedFile, match=r"a\.json is damaged"):
            read_sealed(path)


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` cut anywhere, or with a bit flipped anywhere."""
    cut = st.integers(0, len(whole) - 2).map(lambda at: whole[:at])

    def flip(bit: int) -> bytes:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    return cut | st.integers(0, 8 * len(whole) - 1).map(flip)


# States


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


def equal(one: Any, other: Any) -> bool:
    """Whether two trees are the same, dtypes, types and not-a-numbers included."""
    if isinstance(one, torch.Tensor):
        same_kind = isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape
        return same_kind and bytes_of(one) == bytes_of(other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and list(one) == list(other)
            and all(type(a) is type(b) for a, b in zip(one, other, strict=True))
            and all(equal(one[key], other[key]) for key in one)
        )
    if isinstance(one, list | tuple):
        return isinstance(other, list) and len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


dtypes = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]
)
shapes = st.lists(st.integers(0, 3), max_size=3)
tensors = st.builds(lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype), shapes, dtypes)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    scalars | tensors,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@quick
@given(st.dictionaries(st.text() | st.integers(), trees, max_size=4))
def test_states_come_back(tmp_path: Path, state: dict[Any, Any]) -> None:
    digest = save_state(tmp_path / "state", state)
    assert equal(state, load_state(tmp_path / "state", digest))


def test_a_state_like_those_of_training_comes_back(tmp_path: Path) -> None:
    layout = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    shared = torch.randn(3)
    state = {
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "views": [layout, layout.permute(3, 2, 1, 0), torch.arange(6).reshape(2, 3).t()[1:]],
        "shared": {"a": shared, "b": shared, "part": shared[1:]},
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "random": torch.get_rng_state(),
        "empty": {"dict": {}, "list": [], "tensor": torch.empty(0, 3), "text": ""},
        "numbers": {"nan": math.nan, "infinity": math.inf, "large": 2**80, "negative zero": -0.0},
        -1: None,
    }
    save_state(tmp_path / "state", state)
    back = load_state(tmp_path / "state")
    assert equal({**state, "parameter": torch.ones(2)}, back)
    assert math.copysign(1, back["numbers"]["negative zero"]) == -1
    # What was shared is apart now, so that loading into one leaves the other alone.
    back["shared"]["a"].zero_()
    assert torch.equal(back["shared"]["b"], shared)


def test_a_state_is_a_copy_of_the_moment(tmp_path: Path) -> None:
    weights = torch.ones(3)
    save_state(tmp_path / "state", {"weights": weights})
    weights.zero_()
    assert load_state(tmp_path / "state")["weights"].tolist() == [1, 1, 1]


def test_the_same_state_has_the_same_bytes(tmp_path: Path) -> None:
    state = {"a": torch.arange(3), "b": [1, {"c": torch.zeros(2)}]}
    assert save_state(tmp_path / "one", state) == save_state(tmp_path / "two", state) == sha256_of(tmp_path / "one")


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {("a", "b"): 1}, {None: 1}])
def test_what_is_no_plain_data_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="a state"):
        save_state(tmp_path / "state", {"value": value})
    assert os.listdir(tmp_path) == []


@quick
@given(st.data())
def test_a_changed_or_cut_state_is_named(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "state.safetensors"
    digest = save_state(path, {"weights": torch.arange(12.0), "epoch": 3})
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with pytest.raises(DamagedFile, match=r"state\.safetensors is damaged"):
        load_state(path, digest)


@quick
@given(st.data())
def test_a_cut_state_is_named_also_without_its_hash(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, {"weights": torch.arange(12.0), "epoch": 3})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(DamagedFile, match=r"state\.safetensors is damaged"):
        load_state(path)


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=r"gone is damaged: .*No such file"):
        load_state(tmp_path / "gone", "0" * 64)


def file_of(header: bytes, data: bytes = b"", claimed: int | None = None) -> bytes:
    """A safetensors file: the header's size, the header, the bytes of the tensors."""
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + data


def header(**tensors: Any) -> bytes:
    return json.dumps({"__metadata__": {"nasdistill": '{"items": []}'}, **tensors}).encode()


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def skeleton(text: str) -> bytes:
    return file_of(json.dumps({"__metadata__": {"nasdistill": text}}).encode())


HOSTILE = {
    "empty": b"",
    "a pickle": b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94",
    "an archive": b"PK\x03\x04" + bytes(100),
    "a header of 2^63 bytes": file_of(b"{}", claimed=2**63),
    "a header of 90 MB that is not there": file_of(b"{}", claimed=90_000_000),
    "a header of 17 MiB of names": file_of(header(**{f"{i:0200}": tensor([0], 0, 0) for i in range(75_000)})),
    "no JSON": file_of(b"{" * 1000),
    "deep JSON": file_of(b"[" * 1_000_000),
    "no metadata": file_of(b"{}"),
    "a tensor beyond the end": file_of(header(a=tensor([4], 0, 16)), bytes(8)),
    "a tensor of 2^80 bytes": file_of(header(a=tensor([2**40, 2**40], 0, 16)), bytes(16)),
    "a tensor of 2^64 bytes that wraps round": file_of(header(a=tensor([2**31, 2**31], 0, 0))),
    "overlapping tensors": file_of(header(a=tensor([2], 0, 8), b=tensor([2], 4, 12)), bytes(12)),
    "an unknown type": file_of(header(a=tensor([2], 0, 8, "PICKLE")), bytes(8)),
    "negative offsets": file_of(header(a=tensor([2], -8, 0)), bytes(8)),
    "a skeleton that is no JSON": skeleton("{"),
    "a skeleton that is no mapping": skeleton('{"value": 3}'),
    "a skeleton with a tensor that is not there": skeleton('{"items": [["a", {"tensor": "7"}]]}'),
    "a skeleton with a list as a key": skeleton('{"items": [[["a"], {"value": 1}]]}'),
    "a skeleton of another form": skeleton('{"items": [["a", 3]]}'),
    "a deep skeleton": skeleton('{"list": [' * 50_000 + '{"value": 1}' + "]}" * 50_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_quickly_and_without_much_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(DamagedFile, match=r"hostile\.safetensors is damaged"):
        load_state(path)
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_a_state_that_could_not_be_read_back_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "HEADER_LIMIT", 1000)
    save_state(tmp_path / "state", {"history": [0.5] * 10})
    with pytest.raises(ValueError, match="the most is 1000"):
        save_state(tmp_path / "state", {"history": [0.5] * 1000})
    assert load_state(tmp_path / "state") == {"history": [0.5] * 10}
