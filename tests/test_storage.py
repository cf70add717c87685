from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdistill import storage
from nasdistill.errors import DamagedFile
from nasdistill.storage import (
    files_below,
    publish_folder,
    read_json,
    read_sealed,
    remove_leftovers,
    sha256_of,
    sha256_of_json,
    write_bytes,
    write_json,
    write_sealed,
)

quick = settings(max_examples=60)


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
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
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
    assert os.strerror(errno.EFBIG) in done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f".a.json.{uuid.uuid4().hex}.partial").write_text("half")
    retired = tmp_path / f".place.{uuid.uuid4().hex}.retired"
    retired.mkdir()
    (retired / "a").write_text("old")
    (tmp_path / "a.json").write_text("whole")
    (tmp_path / ".hidden").write_text("of the user")
    (tmp_path / ".big.iso.partial").write_text("of a user's browser")
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".big.iso.partial", ".hidden", "a.json"]


def test_files_come_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b/c", "a", "b/a"):
        write_bytes(tmp_path / name, b"")
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == ["a", "b/a", "b/c"]


# JSON


def test_json_comes_back_and_not_a_number_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None, "café"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "café"]}
    with pytest.raises(ValueError):  # noqa: PT011 - in the words of json
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
