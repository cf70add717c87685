"""Code that a recipe brings: none of it runs without a yes, and everything that only looks at a recipe says so."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import nasdistill.api as nd
from nasdistill.cli.main import main
from nasdistill.closure import PLUGIN_FOLDER
from nasdistill.errors import UserError
from nasdistill.plugins import source_of
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.source import RecipeError
from nasdistill.recipes.trust import Code, Verdict, pass_over, refuse, run_all
from nasdistill.registry import plugins
from nasdistill.stages import STAGES
from tests.recipes import toy  # noqa: F401

MARKING = "from pathlib import Path\nPath({place!r}).open('a').write('x')\n"
RECIPE = """\
name: theirs
data: toy-data
plugins: [mine.py]
stages:
  - {name: walk, uses: toy-walk, with: {steps: 3}}
  - {name: sum, uses: toy-sum, with: {walk: walk}}
"""


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that grows whenever `mine.py` runs, which the recipe `theirs/recipe.yaml` brings; nobody said yes yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(STAGES, "_components", {name: STAGES.get(name) for name in STAGES.loaded()})
    monkeypatch.setattr(plugins, "broken", {})
    for name in [name for name in sys.modules if name.startswith(PLUGIN_FOLDER)]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "theirs").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs" / "mine.py").write_text(MARKING.format(place=str(tmp_path / "canary")))
    (tmp_path / "theirs" / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "canary"


FILE = "theirs/recipe.yaml"


def run(*more: str) -> int:
    return main(["run", FILE, "--out", "out", "--quiet", *more])


def write(text: str, file: str = FILE) -> None:
    Path(file).write_text(text)


def named(plugin: str) -> None:
    write(RECIPE.replace("mine.py", plugin))


def asked(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """A user at a terminal, who types `answer`."""
    for name, text in (("stdin", answer), ("stderr", "")):
        stream = io.StringIO(text)
        stream.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, name, stream)


def test_without_a_yes_the_recipe_is_refused(canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    told = capsys.readouterr().err
    assert told.startswith(f"nasdistill: {FILE}:3: plugins.0: ")
    assert "--trust" in told
    assert not canary.exists()


def test_a_dry_run_lists_the_code_and_plans_what_needs_none(canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        RECIPE.replace("toy-walk", "their-stage")
        + "  - {name: own, uses: toy-walk, with: {steps: 4}}\n"
        + "  - {name: trained, uses: train, with: {model: mlp-8, optimizer: theirs}}\n"
        + "  - {name: named, uses: distill, with: {student: their-net, teacher: trained}}\n"
    )
    assert run("--dry-run") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert f"{canary.parent}/theirs/mine.py, named in {FILE}:3" in lines["not"]
    assert "to do" in lines["own"]
    for unseen in ("walk", "sum", "trained", "named"):
        assert "not looked at" in lines[unseen]
    assert not canary.exists()


def test_a_dry_run_still_tells_mistakes(canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(RECIPE.replace("steps: 3", "steps: -3"))
    assert run("--dry-run") == 2
    assert f"{FILE}:5: stages.walk.steps: " in capsys.readouterr().err


def test_of_data_that_a_plug_in_may_bring_nothing_is_known(canary: Path) -> None:
    write(RECIPE.replace("toy-data", "their-data").replace("plugins", "loggers: [their-log]\nplugins"))
    recipe = load_recipe(FILE, trust=pass_over)
    assert (list(recipe.stages), list(recipe.unseen)) == ([], ["walk", "sum"])
    assert not canary.exists()


def test_a_yes_is_remembered_as_long_as_the_code_stays_as_it_is(canary: Path) -> None:
    Path("theirs/mine.py").write_text(Path("theirs/mine.py").read_text() + "import helper\n")
    Path("theirs/helper.py").write_text("ONE = 1\n")
    assert run("--trust", "--dry-run") == 0
    assert canary.read_text() == "x"
    Path("theirs").rename("moved")
    assert main(["run", "moved/recipe.yaml", "--out", "out"]) == 0
    assert canary.read_text() == "xx"
    Path("moved/helper.py").write_text("ONE = 2\n")
    assert main(["run", "moved/recipe.yaml", "--out", "out"]) == 2


@pytest.mark.parametrize(("answer", "status"), [("Yes\n", 0), ("\n", 2), ("n\n", 2), ("", 2), ("sure\n", 2)])
def test_on_a_terminal_the_user_is_asked_once(
    canary: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: int
) -> None:
    asked(monkeypatch, answer)
    assert run("--sweep", "stages.walk.steps=1,2") == status
    assert canary.exists() == (status == 0)
    told = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert told.count("[y/N]") == 1
    assert f"{FILE}:3: {Path('theirs/mine.py').resolve()}" in told


def test_one_of_several_processes_asks_nobody(canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, "y\n")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run() == 2
    monkeypatch.setenv("NASDISTILL_STARTED_BY", str(os.getpid()))
    assert run("--dry-run") == 0
    assert canary.exists()


@pytest.mark.parametrize("yes", [["--plugin", "theirs/mine.py"], ["plugins=[theirs/mine.py]"], ["plugins=[]"]])
def test_what_is_typed_is_a_yes(canary: Path, yes: list[str]) -> None:
    assert run(*yes, "--dry-run") == 0
    assert canary.exists() == ("[]" not in yes[0])


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        ("../evil.py", "lies outside"),
        ("link.py", "lies outside"),
        ("linked/evil.py", "lies outside"),
        ("sub/../../evil.py", "lies outside"),
        ("nowhere.py", "there is no file"),
        ("sub", "there is no module 'sub'"),
        ("no.such.module", "there is no module 'no.such.module'"),
        ("json.no_such_module", "there is no module 'json.no_such_module'"),
        ("../evil", "with .py at its end, or the name of a module"),
        ("sub/", "with .py at its end, or the name of a module"),
    ],
)
def test_a_plug_in_that_is_elsewhere_or_nowhere_is_a_mistake(
    canary: Path, capsys: pytest.CaptureFixture[str], plugin: str, told: str
) -> None:
    Path("evil.py").write_text(MARKING.format(place=str(canary)))
    Path("theirs/sub").mkdir()
    Path("theirs/link.py").symlink_to("../evil.py")
    Path("theirs/linked").symlink_to("..")
    named(plugin)
    for more in ([], ["--trust"], ["--dry-run"]):
        assert run(*more) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"nasdistill: {FILE}:3: plugins.0: ")
        assert told in said
    assert not canary.exists()


def test_a_missing_plug_in_of_the_command_line_is_a_mistake(canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "objectives", "--plugin", "nowhere.py"]) == 2
    assert capsys.readouterr().err.startswith("nasdistill: --plugin: there is no file 'nowhere.py'")


def test_a_module_needs_a_yes_as_well(canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And looking for one imports no package that it lies in."""
    package = Path("beside/package_of_theirs")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(MARKING.format(place=str(canary)))
    (package / "part.py").write_text("")
    monkeypatch.syspath_prepend("beside")
    before, files = source_of("package_of_theirs.part")
    assert {Path(file).name for file in files} == {"__init__.py", "part.py"}
    (package / "__init__.py").write_text(f"{MARKING.format(place=str(canary))}# more\n")
    assert source_of("package_of_theirs.part")[0] != before
    named("package_of_theirs.part")
    assert run() == 2
    assert run("--dry-run") == 0
    assert not canary.exists()
    assert run("--trust", "--dry-run") == 0
    assert canary.exists()


def test_what_is_asked_about(canary: Path) -> None:
    Path("theirs/mine.py").write_text("from helper import one\n")
    Path("theirs/helper.py").write_text("one = 1\n")
    told: list[Code] = []

    def trust(codes: Sequence[Code]) -> Verdict:
        told.extend(codes)
        return Verdict.REFUSE

    with pytest.raises(RecipeError):
        load_recipe(FILE, trust=trust)
    (code,) = told
    assert [Path(file).name for file in code.files] == ["mine.py", "helper.py"]
    assert code.where == f"{FILE}:3"


def test_a_yes_that_nobody_can_write_down_counts_for_this_process(
    canary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nasdistill.recipes.trust._said", set())
    Path("state").write_text("no folder")
    load_recipe(FILE, trust=run_all)
    assert "is not remembered" in caplog.text
    load_recipe(FILE, trust=refuse)


def test_a_program_says_yes_to_what_it_passes(canary: Path) -> None:
    with pytest.raises(UserError, match="--trust"):
        nd.run(FILE)
    stage = {"name": "walk", "uses": "toy-walk", "with": {"steps": 3}}
    nd.run({"name": "ours", "data": "toy-data", "plugins": ["theirs/mine.py"], "stages": [stage]}, out="ours")
    assert canary.exists()


def test_what_was_passed_over_does_not_run(canary: Path) -> None:
    from nasdistill.recipes import runner

    with pytest.raises(UserError, match="nobody said yes to"):
        runner.run(load_recipe(FILE, trust=pass_over), Path("out"), "test")
