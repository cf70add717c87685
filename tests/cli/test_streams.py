"""Standard output and error that are closed, unread or of few characters, and names that a terminal would obey."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nasdistill.cli import main as entry
from nasdistill.cli import streams, tables
from nasdistill.cli.streams import LONGEST, LONGEST_WORD, abridged, inert
from tests.cli.conftest import Command


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, \N{EN DASH}\n\tas it is", "plain, ünïcode, \N{EN DASH}\n\tas it is"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("over\rwritten", r"over\rwritten"),
        ("\x9b31m", r"\x9b31m"),
        ("safe\u202egpj.exe", r"safe\u202egpj.exe"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert inert(text) == shown


def test_long_names_lose_their_middle() -> None:
    name = "begin" + "x" * 100_000 + "end"
    told = abridged(f"unknown recipe {name!r}; did you mean 'quickstart'?")
    assert len(told) < LONGEST_WORD + 100
    assert told.startswith("unknown recipe 'beginxxx")
    assert "more characters) ...xxx" in told
    assert told.endswith("xend'; did you mean 'quickstart'?")
    assert len(abridged("two words " * 10_000)) <= LONGEST


def test_a_mistake_in_a_long_name_with_escape_codes_is_a_short_sentence(nasdistill: Command) -> None:
    done = nasdistill("show", "objectives", "\x1b[2J" + "a" * 100_000)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < LONGEST + 100


def test_a_log_that_nobody_reads_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", gone)
    streams.tell("a line of progress")


def test_a_reader_that_left_is_no_error(nasdistill: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    abandoned = []

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(tables, "show_table", gone)
    monkeypatch.setattr(streams, "abandon_output", lambda: abandoned.append(True))
    done = nasdistill("list", "objectives")
    assert (done.returncode, done.stderr, abandoned) == (128 + signal.SIGPIPE, "", [True])


def test_a_stop_before_anything_began_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nasdistill.cli.command_line.run_command", stopped)
    assert entry.main(["run", "my recipe.yaml"]) == 130
    told = "nasdistill: stopped before anything began; the same command begins it: nasdistill run 'my recipe.yaml'\n"
    assert capfd.readouterr().err == told


def test_a_stop_before_a_run_has_its_folder_is_a_sentence(nasdistill: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nasdistill.cli.runs.execute", stopped)
    done = nasdistill("run", "quickstart")
    assert done.returncode == 130
    assert done.stderr.endswith("and the same command goes on from there: nasdistill run quickstart\n")


def test_what_a_closed_output_was_is_given_to_no_file(tmp_path: Path) -> None:
    code = "import os; from nasdistill.cli import streams; streams.prepare(); print('lost'); file = open('a', 'w')\n"
    code += "assert file.fileno() > 2; os.write(1, b'from a library'); file.write('kept')"
    closed = f'"{sys.executable}" -c "$CODE" >&- 2>&-'
    done = subprocess.run(closed, shell=True, cwd=tmp_path, env={**os.environ, "CODE": code})  # noqa: S602
    assert done.returncode == 0
    assert (tmp_path / "a").read_text() == "kept"


def test_a_header_is_no_markup(capfd: pytest.CaptureFixture[str]) -> None:
    tables.show_table(["pair / loss", "[kd]"], [["a", "1"]])
    assert "[kd]" in capfd.readouterr().out
