from __future__ import annotations

import json
import math
import os
import resource
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasdistill import storage
from nasdistill.errors import DamagedFile
from nasdistill.storage import (
    load_state,
    save_state,
    sha256_of,
)
from tests.test_storage import damaged, quick


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
    with pytest.raises(DamagedFile, match="gone is damaged"):
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
