from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill import ledger as module
from nasdistill.errors import DamagedFile, UserError
from nasdistill.ledger import LEDGER, Ledger


def test_what_was_written_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    Ledger(tmp_path).write("a.txt", "first")
    Ledger(tmp_path).write("a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "second"
    (tmp_path / "a.txt").write_text("second, with a note of the user's")
    (tmp_path / "b.txt").write_text("the user's")
    (tmp_path / "c.txt").symlink_to("nowhere")
    for name in ("a.txt", "b.txt", "c.txt"):
        with pytest.raises(UserError, match=f"holds {name}, not as nasdistill wrote it there.*move it elsewhere"):
            Ledger(tmp_path).write(name, "third")
    assert (tmp_path / "a.txt").read_text() == "second, with a note of the user's"
    assert (tmp_path / "b.txt").read_text() == "the user's"
    assert not (tmp_path / "c.txt").exists()


def test_nothing_is_lost_by_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same")
    Ledger(tmp_path).write("a.txt", "the same")
    Ledger(tmp_path).write("a.txt", "another")
    assert (tmp_path / "a.txt").read_text() == "another"


def test_a_kill_between_the_note_and_the_file_leaves_neither_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(tmp_path).write("a.txt", "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            Ledger(tmp_path).write("a.txt", "new")
    assert Ledger(tmp_path).wrote("a.txt")
    Ledger(tmp_path).write("a.txt", "newer")
    assert (tmp_path / "a.txt").read_text() == "newer"


def test_only_what_was_written_is_removed(tmp_path: Path) -> None:
    Ledger(tmp_path).write("a.txt", "ours")
    (tmp_path / "b.txt").write_text("the user's")
    for name in ("a.txt", "b.txt", "c.txt"):
        Ledger(tmp_path).remove(name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.txt", LEDGER]


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    Ledger(tmp_path).write("a.txt", "1")
    Ledger(tmp_path).check("a.txt")
    Ledger(tmp_path).check("b.txt")
    (tmp_path / "a.txt").write_text("2")
    with pytest.raises(DamagedFile, match=r"a\.txt is damaged: its SHA-256 is not the one in written\.json"):
        Ledger(tmp_path).check("a.txt")
