"""The package as others get it: source archive, wheel built from it, run from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from nasdistill import resources

ROOT = Path(__file__).parents[1]
BESIDE = ("LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "constraints-oldest.txt", "Makefile")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", *BESIDE)
FOLDERS = ("nasdistill", "search_spaces", "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built without a network from the unpacked source archive of this checkout."""
    folder = tmp_path_factory.mktemp("package")
    copy = folder / "checkout"
    copy.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build(copy, "build_sdist", folder)
    (archive,) = folder.glob("*.tar.gz")
    (folder / "unpacked").mkdir()
    subprocess.run(["tar", "xzf", str(archive), "-C", str(folder / "unpacked")], check=True)
    (unpacked,) = (folder / "unpacked").iterdir()
    assert {path.name for path in unpacked.iterdir()} >= set(FILES)
    build(unpacked, "build_wheel", folder)
    (found,) = folder.glob("*.whl")
    return found


def build(source: Path, hook: str, into: Path) -> None:
    """Call a hook of the build backend, as `pip` and `build` do."""
    code = f"from setuptools import build_meta; build_meta.{hook}({str(into)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_all_code_and_yaml_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "nasdistill").rglob("*.py")}
    beside = {
        str(path.relative_to(ROOT))
        for end in ("*.c", "*.h", "*.j2", "*.css", "*.js", "*.xz", "*.txt")
        for path in (ROOT / "nasdistill").rglob(end)
    }
    spaces = {f"nasdistill/search_spaces/{path.name}" for path in resources.search_spaces().glob("*.yaml")}
    recipes = {f"nasdistill/library/{path.name}" for path in resources.recipes().glob("*.yaml")}
    assert spaces
    assert recipes
    assert names == code | beside | spaces | recipes | {"nasdistill/py.typed"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the unpacked wheel is what Python imports."""
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    return {**os.environ, "PYTHONPATH": str(place)}


def run(environment: dict[str, str], folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_runs_from_an_empty_folder(installed: dict[str, str], tmp_path: Path) -> None:
    file = run(installed, tmp_path, "-c", "import nasdistill; print(nasdistill.__file__)")
    assert file.startswith(installed["PYTHONPATH"]), "the wheel is what runs, not the checkout"
    assert "Example: nasdistill run quickstart" in run(installed, tmp_path, "-m", "nasdistill", "--help")
    assert " darts-tiny " in run(installed, tmp_path, "-m", "nasdistill", "list", "spaces")
    plan = run(installed, tmp_path, "-m", "nasdistill", "run", "quickstart", "--dry-run")
    for stage in ("student-arch", "teacher-arch", "teacher", "alone", "student"):
        assert f"\n {stage} " in plan
    assert not any(tmp_path.iterdir()), "a plan writes nothing"


def test_the_command_is_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith("entry_points.txt"))
        assert "nasdistill = nasdistill.cli.main:main" in file.read(name).decode()


def test_the_licence_is_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        lines = file.read(metadata).decode().split("\n\n")[0].splitlines()
        (licence,) = (name for name in file.namelist() if name.endswith("licenses/LICENSE"))
        assert "Version 2.0, January 2004" in file.read(licence).decode()
    assert "License-Expression: Apache-2.0" in lines


def test_what_is_promised_is_what_the_oldest_environment_has(wheel: Path) -> None:
    """Every dependency has a lower bound, and `make test-oldest` installs just that version."""
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        lines = file.read(metadata).decode().splitlines()
    found = (line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: "))
    required = [Requirement(line) for line in found if "extra ==" not in line or 'extra == "nni"' in line]
    floors = {one.name.lower(): bound.version for one in required for bound in one.specifier if bound.operator == ">="}
    assert len(floors) == len(required) > 0
    oldest = [Requirement(line) for line in (ROOT / "constraints-oldest.txt").read_text().splitlines()[1:]]
    pinned = {one.name.lower(): Version(str(one.specifier).removeprefix("==")) for one in oldest}
    assert pinned == {name: Version(version) for name, version in floors.items()}
