"""Stages of installed packages are commands; their code is imported when they are named, and may fail alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import STAGE_PLUGIN, Command


@pytest.fixture
def site(tmp_path: Path) -> str:
    """A folder of installed packages, with a distribution that offers two stages, one of which does not load."""
    site = tmp_path / "site"
    information = site / "echoes-1.2.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: echoes\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text("[nasdistill.stages]\necho = echoes:Echo\nsilence = silent:Silence\n")
    (site / "echoes.py").write_text(STAGE_PLUGIN + "\n\nPath('imported').touch()\n")
    (site / "silent.py").write_text("raise OSError('nothing to hear')\n")
    return str(site)


def test_help_lists_the_stage_without_importing_it(process: Command, site: str, tmp_path: Path) -> None:
    told = process("--help", PYTHONPATH=site).stdout
    assert "\n  echo " in told
    assert "of an installed plugin; loaded when named" in told
    assert not (tmp_path / "imported").exists()


def test_the_stage_is_a_command_with_its_options(process: Command, site: str, tmp_path: Path) -> None:
    assert "--times <int>" in process("echo", "--help", PYTHONPATH=site).stdout
    assert (tmp_path / "imported").exists()
    done = process("echo", "wrn-10-1", "--times", "5", PYTHONPATH=site)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "runs" / "echo" / "artifacts").glob("*/echo.json")
    assert '"times": 5' in written.read_text()


def test_a_broken_stage_is_named_and_the_rest_goes_on(process: Command, site: str) -> None:
    done = process("silence", PYTHONPATH=site)
    assert done.returncode == 2
    assert "OSError: nothing to hear" in done.stderr
    listed = process("list", "stages", PYTHONPATH=site)
    assert listed.returncode == 0
    assert "OSError: nothing to hear" in listed.stdout
    assert "echoes 1.2" in listed.stdout
    assert " train " in listed.stdout
