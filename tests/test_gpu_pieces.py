"""The pieces of `benchmarks.gpu`, without running them: CI does that with `--dry`. And folders that travel in parts."""

from __future__ import annotations

import json
import re
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import common, gpu
from benchmarks.gpu import PIECES, Piece, Session, numbers_of, rows_in
from benchmarks.parts import join, split

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "gpu.md"


def test_the_page_has_every_piece_in_its_order() -> None:
    listed = re.findall(r"^\| `(.+?)` \| .+ \| ([0-9]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [(name, float(minutes)) for name, minutes in listed] == [(piece.name, piece.minutes) for piece in PIECES]


def test_what_ended_is_not_done_again_and_what_has_no_time_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pieces that print something, fail, save when they are asked to, and take too long to begin."""
    asks = "signal.signal(signal.SIGUSR1, lambda *_: os._exit(138)); print(0, flush=True); time.sleep(60)"
    (tmp_path / "talk.py").write_text('print("3 passed, 1 skipped in 2 s")')
    (tmp_path / "fail.py").write_text("import missing_module")
    (tmp_path / "break_off.py").write_text("import sys; print('{\"comparisons\": []}'); sys.exit('lost the device')")
    (tmp_path / "save.py").write_text(f"import os, signal, time; {asks}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "MNIST").mkdir()
    options = Namespace(results=tmp_path, data=tmp_path, minutes=2, commit="abc", dry=False)
    session = Session(options, tmp_path / "DATA" / "runs")
    session.do(Piece("talks", 0, ("talk", "OUT", "data.root=DATA")))
    session.do(Piece("fails", 0, ("fail",)))
    session.do(Piece("breaks at its end", 0, ("break_off",)))
    session.do(Piece("takes long", 3, ("talk",)))
    session.do(Piece("has no data", 0, ("talk",), data="cifar10"))
    session.until = time.monotonic() + 4
    monkeypatch.setattr(gpu, "LEAST", 0)
    session.do(Piece("saves", 9, ("save", "run"), data="mnist"))
    talked, failed, broken = rows_in(tmp_path)
    assert (talked["numbers"], talked["commit"]) == ({"tests passed": 3, "tests skipped": 1}, "abc")
    assert "No module named 'missing_module'" in failed["failed"]
    assert broken["failed"] == "status 1: lost the device"
    told = capsys.readouterr().out
    assert f"python -m talk {tmp_path}/DATA/runs/talks data.root={tmp_path}\n" in told
    for sentence in ("takes long: not begun", "has no data: not begun, as there is no cifar-10", "saves: saved after"):
        assert sentence in told


def test_what_failed_is_tried_again_after_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a piece that outlasts its time again costs the others nothing; and no processor is taken for a GPU."""
    (tmp_path / "talk.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu, "PIECES", (Piece("fails", 0, ("missing_module",)), Piece("talks", 0, ("talk",))))
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path), "--minutes", "2"])
    monkeypatch.setattr(common, "machine", lambda: {"accelerator": None})
    with pytest.raises(SystemExit, match="torch finds no GPU here"):
        gpu.main()
    monkeypatch.setattr(common, "machine", lambda: {"accelerator": "one"})
    (tmp_path / gpu.ROWS).write_text('{"piece": "fails", "dry": false, "failed": "status -10: ", "numbers": {}}\n')
    with pytest.raises(SystemExit):
        gpu.main()
    rows = [json.loads(line)["piece"] for line in (tmp_path / gpu.ROWS).read_text().splitlines()]
    assert rows == ["fails", "talks", "fails"]


def test_numbers_are_read_from_benchmarks_and_runs(tmp_path: Path) -> None:
    rivals = {"plain": {"rate": 10.0, "ratio": 1.0}, "ours": {"rate": 20.0, "ratio": 2.0}}
    told = json.dumps(
        {"comparisons": [{"title": "training", "unit": "images/s", "baseline": "plain", "rivals": rivals}]}
    )
    assert numbers_of(told, tmp_path / "none")["training: ours, x plain"] == 2.0
    told = json.dumps({"milliseconds": {"ours": [{"teacher": 1.0, "student": 2.0}, {"teacher": 3.0, "student": 2.0}]}})
    assert numbers_of(told, tmp_path / "none") == {"ours, ms per pseudo-batch": 4.0}
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{"stage": "alone", "accuracy": {"last": 91.0}, "seconds": 3.0}]))
    assert numbers_of("", results) == {"alone: last, % of test images": 91.0, "alone: seconds": 3.0}


def test_a_folder_comes_back_from_its_parts_once_all_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "bytes").write_bytes(bytes(range(256)) * 16)
    (folder / "link").symlink_to("deep")
    parts = split(folder, tmp_path / "parts", largest=100)
    assert len(parts) > 1
    assert all(part.stat().st_size <= 100 for part in parts)
    parts[1].rename(tmp_path / "on-its-way")
    with pytest.raises(FileNotFoundError, match=rf"set is not whole: {parts[1].name} are not in "):
        join(tmp_path / "parts", tmp_path / "back")
    (tmp_path / "on-its-way").rename(parts[1])
    assert join(tmp_path / "parts", tmp_path / "back") == [tmp_path / "back" / "set"]
    assert (tmp_path / "back" / "set" / "link" / "bytes").read_bytes() == (folder / "deep" / "bytes").read_bytes()
    assert split(folder, tmp_path / "parts") == [tmp_path / "parts" / "set.00-of-01"], "fewer parts replace more"
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["set.00-of-01"]


def test_parts_of_which_some_were_not_written_are_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    held = tmp_path / "set" / "bytes"
    held.write_bytes(bytes(range(256)))
    count = len(split(held.parent, tmp_path / "parts", largest=100))
    held.write_bytes(bytes(reversed(range(256))))
    write = Path.write_bytes

    def until_killed(path: Path, data: bytes) -> int:
        if ".01-of" in path.name:
            raise KeyboardInterrupt
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", until_killed)
        with pytest.raises(KeyboardInterrupt):
            split(held.parent, tmp_path / "parts", largest=100)
    join(tmp_path / "parts", tmp_path / "back")
    assert (tmp_path / "back" / "set" / "bytes").read_bytes() == bytes(range(256))
    assert len(split(held.parent, tmp_path / "parts", largest=100)) == count
    assert len(list((tmp_path / "parts").iterdir())) == count
