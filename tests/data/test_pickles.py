"""The reader of plain pickles against Python's own writer, and against pickles that try to run code."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdistill.data.pickles import NotPlainData, read_plain_pickle

TEXT = st.text(st.characters(max_codepoint=255), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_come_back(value: object) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol=2)) == value


def test_arrays_of_bytes_come_back() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found = read_plain_pickle(pickle.dumps({b"data": array, "labels": [1, 300, 70_000]}, protocol=2))
    assert np.array_equal(found["data"], array)
    assert found["labels"] == [1, 300, 70_000]


def test_strings_of_python_2_come_back() -> None:
    # {'labels': ['caf\xe9', 7]} as Python 2 wrote it: SHORT_BINSTRING.
    data = b"\x80\x02}q\x01U\x06labelsq\x02]q\x03(U\x04caf\xe9q\x04K\x07es."
    assert read_plain_pickle(data) == {"labels": ["caf\xe9", 7]}


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_code_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    place = tmp_path / "made"
    with pytest.raises(NotPlainData):
        read_plain_pickle(pickle.dumps({"labels": Attack(place)}, protocol=protocol))
    assert not place.exists()
    pickle.loads(pickle.dumps(Attack(place), protocol=protocol))  # noqa: S301  (shows that the attack is one)
    assert place.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b"\x80\x02s.", "takes more than it holds"),
        (b"\x80\x02e.", "no beginning"),
        (b"\x80\x02K\x01(K\x02e.", "fills a int"),
        (b"cos\nsystem\n.", "names 'os system'"),
        (b"\x80\x02cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.", "calls what plain data do not need"),
        (b"\x80\x02K\x01K\x02b.", "fills what plain data do not hold"),
        (b"\x80\x02G\x00\x00\x00\x00\x00\x00\x00\x00.", "BINFLOAT"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(NotPlainData, match=reason):
        read_plain_pickle(data)


def test_an_array_of_objects_is_refused() -> None:
    array = np.array([{}], dtype=object)
    with pytest.raises(NotPlainData):
        read_plain_pickle(pickle.dumps(array, protocol=2))


GOOD = pickle.dumps({"data": np.arange(30, dtype=np.uint8).reshape(3, 10), "labels": [0, 1, 2]}, protocol=2)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.booleans())
def test_damage_ends_in_data_or_in_one_kind_of_error(place: int, byte: int, cut: bool) -> None:
    data = GOOD[:place] if cut else GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        read_plain_pickle(data)
    except NotPlainData:
        assert data != GOOD
