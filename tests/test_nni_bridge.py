"""Without nni, what needs it says what to install, and all else works."""

import importlib
import importlib.util
import os
import platform
import sys
import tempfile

import pytest
from filelock import FileLock, Timeout

from nasdistill.cli.main import main
from nasdistill.errors import UserError
from nasdistill.nni_bridge import nni_hub, require_nni


def hide(module, monkeypatch):
    """Let a module not be found."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else real(name, *rest))


@pytest.fixture
def without_nni(monkeypatch):
    """A process in which nni cannot be imported."""
    hide("nni", monkeypatch)
    for module in [name for name in sys.modules if name.split(".")[0] == "nni"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "nni", None)


def test_tune_says_what_to_install(without_nni, capsys):
    assert main(["tune", "quickstart", "--vary", "stages.student.epochs=[1, 2]", "--engine", "nni"]) == 2
    told = capsys.readouterr().err
    assert "the engine nni needs nni, not installed here: pip install 'nni>=3.0'" in told
    assert "the rest of nasdistill works without" in told


@pytest.mark.parametrize(
    ("space", "strategy", "what"),
    [("darts-tiny", "nni:tpe", "the strategy 'nni:tpe'"), ("nni:mobilenet-v3", "auto", "nni's space MobileNetV3Space")],
)
def test_a_search_says_so_before_anything_runs(without_nni, space, strategy, what, tmp_path, capsys):
    out = ["--data", "digits", "--out", str(tmp_path / "out")]
    assert main(["search", "--space", space, "--strategy", strategy, *out]) == 2
    assert f"{what} needs nni, not installed here" in capsys.readouterr().err
    assert not (tmp_path / "out" / "artifacts").exists()


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_other_processors_are_told_that_there_is_no_wheel(without_nni, machine, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(UserError, match=rf"nni has no wheel for this processor \({machine}\)"):
        require_nni("this")


def test_what_nni_needs_is_told_too(monkeypatch):
    hide("pkg_resources", monkeypatch)
    with pytest.raises(UserError, match=r"needs pkg_resources, not installed here: pip install 'setuptools<81'"):
        require_nni("this")


def test_one_process_at_a_time_imports_nnis_spaces_also_where_its_user_has_no_name(tmp_path, monkeypatch):
    pytest.importorskip("nni")
    pytest.importorskip("pytorch_lightning")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)  # as Kubernetes may run containers

    def imported(name):
        if name == "nni.nas.hub.pytorch":
            (lock,) = tmp_path.iterdir()
            with pytest.raises(Timeout):
                FileLock(lock).acquire(timeout=0)
        return name

    monkeypatch.setattr(importlib, "import_module", imported)
    assert nni_hub("this") == "nni.nas.hub.pytorch"
    (lock,) = tmp_path.iterdir()
    FileLock(lock).acquire(timeout=0).lock.release()


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "spaces"],
        ["list", "strategies"],
        ["show", "strategies", "nni:tpe"],
        ["show", "spaces", "nni:darts"],
        ["tune", "--help"],
        ["run", "quickstart", "--dry-run"],
    ],
    ids=" ".join,
)
def test_the_rest_works(without_nni, arguments, capsys):
    assert main(arguments) == 0
    assert capsys.readouterr().out
