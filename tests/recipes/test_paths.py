"""Where paths start: those in a recipe's file at its folder, all others at the working directory."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import nasdistill.api as nd
from nasdistill.artifacts import publish
from nasdistill.plugins import PLUGIN_FOLDER
from nasdistill.recipes import runner
from nasdistill.recipes.loading import Recipe, load_recipe, recipe_of_stage
from nasdistill.recipes.source import RecipeError
from nasdistill.recipes.sweep import load_sweep
from nasdistill.recipes.trust import run_all
from nasdistill.registry import plugins
from nasdistill.stages import STAGES
from nasdistill.tuning.checking import load_tuned

PLUGIN = '''
from pathlib import Path
from typing import Annotated, Literal
from pydantic import Field
from nasdistill.stages import STAGES, Outcome, Reference, Stage

@STAGES.register("quote")
class Quote(Stage):
    """Says what files say."""
    makes = "words"
    reads_data = False
    file: Path | Literal["none"] = Field("none", description="one to read")
    files: list[Path] = Field(default_factory=list, description="others")
    after: Annotated[str | None, Reference("words")] = Field(None, description="what was said before")

    def is_scored(self):
        return True

    def run(self, inputs, context):
        (context.folder / "words").write_text("said")
        files = [*([] if self.file == "none" else [self.file]), *self.files]
        return Outcome({"words": [file.read_text() for file in files], "validation": {"score": 1.0, "loss": 0.0}})
'''

RECIPE = """
name: quotes
plugins: [plugins/quote.py]
data: {name: image-folder, root: photos}
stages:
  - {name: first, uses: quote, with: {file: a.txt, files: [b.txt, ../c.txt]}}
  - {name: second, uses: quote, with: {after: said/before}}
  - {name: third, uses: quote, with: {after: first}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and all that it names, which is not the working directory."""
    monkeypatch.setattr(STAGES, "_components", {name: STAGES.get(name) for name in STAGES.loaded()})
    monkeypatch.setattr(plugins, "broken", {})
    for name in [name for name in sys.modules if name.startswith(PLUGIN_FOLDER)]:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "project"
    for inner in (folder / "plugins", folder / "photos", tmp_path / "elsewhere"):
        inner.mkdir(parents=True)
    (folder / "plugins" / "quote.py").write_text(PLUGIN)
    (folder / "quotes.yaml").write_text(RECIPE)
    for place in (folder / "a.txt", folder / "b.txt", tmp_path / "c.txt"):
        place.write_text(f"{place.stem} of {place.parent.name}")
    artifact(folder / "said" / "before")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def artifact(place: Path) -> None:
    prepared = place.parent / "prepared"
    prepared.mkdir(parents=True)
    (prepared / "words").write_text("once")
    about = {"stage": "s", "uses": "quote", "key": "0" * 64, "config": {}, "inputs": {}, "seed": 0}
    publish(prepared, place, kind="words", metrics={}, cost={}, provenance={}, **about)


def words(recipe: Recipe, stage: str, out: Path = Path("out")) -> list[str]:
    found: list[str] = nd.Run(runner.run(recipe, out, "test"), out).record.rows[0].metrics["words"]
    return found


def test_all_paths_of_a_file_start_at_its_folder(project: Path) -> None:
    recipe = load_recipe("../project/quotes.yaml", trust=run_all)
    first, second, third = recipe.stages.values()
    assert first.model_dump() == {
        "file": project / "a.txt",
        "files": [project / "b.txt", project / ".." / "c.txt"],
        "after": None,
    }
    assert second.model_dump() == {"file": "none", "files": [], "after": str(project / "said" / "before")}
    assert third.model_dump()["after"] == "first"
    assert recipe.settings.data.root == project / "photos"
    assert recipe.settings.plugins == (str(project / "plugins" / "quote.py"),)


def test_the_home_folder_is_no_folder_beside_the_recipe(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project / "home"
    artifact(home / "mine")
    monkeypatch.setenv("HOME", str(home))
    text = (
        RECIPE.replace("root: photos", "root: ~/pictures").replace("a.txt", "~/a.txt").replace("said/before", "~/mine")
    )
    (project / "quotes.yaml").write_text(text)
    recipe = load_recipe("../project/quotes.yaml", trust=run_all)
    assert recipe.settings.data.root == home / "pictures"
    assert recipe.stages["first"].model_dump()["file"] == home / "a.txt"
    assert recipe.stages["second"].model_dump()["after"] == str(home / "mine")
    (project / "quotes.yaml").write_text(text.replace("~/mine", "~/nothing"))
    with pytest.raises(RecipeError, match=f"unknown stage or artifact folder '{home}/nothing'[^~]*$"):
        load_recipe("../project/quotes.yaml", trust=run_all)


def test_a_space_of_a_file_starts_there_too(project: Path) -> None:
    (project / "small.yaml").write_text("nodes: 1\noperations: [none, skip_connect]\n")
    (project / "search.yaml").write_text(
        "name: s\nstages:\n  - {name: s, uses: search, with: {strategy: random, space: small.yaml}}\n"
        "  - {name: t, uses: search, with: {strategy: random, space: {name: small.yaml}}}\n"
    )
    recipe = load_recipe("../project/search.yaml", trust=run_all)
    assert [stage.model_dump()["space"]["nodes"] for stage in recipe.stages.values()] == [1, 1]
    assert [stage["with"]["space"] for stage in recipe.data["stages"]] == [
        str(project / "small.yaml"),
        {"name": str(project / "small.yaml")},
    ]


def test_a_path_of_the_command_line_starts_at_the_working_directory(project: Path) -> None:
    here = Path.cwd()
    (here / "a.txt").write_text("a of here")
    artifact(here / "mine")
    recipe = load_recipe(
        "../project/quotes.yaml",
        ["stages.first.file=a.txt", "stages.second.after=mine", "data.root=pictures"],
        trust=run_all,
    )
    assert recipe.stages["first"].model_dump()["file"] == here / "a.txt"
    assert recipe.stages["first"].model_dump()["files"][0] == project / "b.txt"
    assert recipe.stages["second"].model_dump()["after"] == str(here / "mine")
    assert recipe.settings.data.root == here / "pictures"
    points = load_sweep("../project/quotes.yaml", swept=["stages.first.file=a.txt,none"], trust=run_all).points
    assert [point.recipe.stages["first"].model_dump()["file"] for point in points] == [here / "a.txt", "none"]
    command = recipe_of_stage("quote", {"file": "a.txt"}, data={"name": "image-folder", "root": "pictures"})
    assert command.data["stages"][0]["with"]["file"] == str(here / "a.txt")
    assert command.data["data"]["root"] == str(here / "pictures")


def test_what_varies_starts_where_it_was_written(project: Path) -> None:
    (Path.cwd() / "a.txt").write_text("a of here")
    for written, place in (("[a.txt, ../c.txt]", "elsewhere"), ("choice(a.txt, b.txt)", "project")):
        with open(project / "quotes.yaml", "w") as file:
            file.write(RECIPE + f"tune: {{stage: third, vary: {{stages.first.file: '{written}'}}}}\n")
        vary = {"vary": {"stages.first.file": written}} if place == "elsewhere" else {}
        settings = load_tuned("../project/quotes.yaml", (), (), vary, run_all).settings
        assert settings.vary["stages.first.file"].arguments[0] == str(project.parent / place / "a.txt")


def test_a_saved_recipe_runs_from_elsewhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert words(load_recipe("quotes.yaml", trust=run_all), "first") == [
        "a of project",
        "b of project",
        "c of " + project.parent.name,
    ]
    monkeypatch.chdir(project.parent / "elsewhere")
    saved = load_recipe("../project/out/recipe.yaml", trust=run_all)
    assert [planned.cached for planned in runner.plan(saved, project / "out")] == [True, True, True]


def test_paths_in_text_start_at_the_working_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    ran = nd.run(RECIPE, out=project.parent / "elsewhere" / "out")
    assert ran.record.rows[0].metrics["words"][0] == "a of project"
    stage = {"name": "dict", "uses": "quote", "with": {"file": Path("b.txt")}}
    assert nd.run({"name": "d", "stages": [stage]}).record.rows[0].metrics["words"] == ["b of project"]
    monkeypatch.chdir(project.parent)
    assert nd.run(ran.folder / "recipe.yaml", out=ran.folder).record.rows[0].cached


@pytest.mark.parametrize(
    ("name", "line", "place"),
    [
        ("photos", 4, "data.root"),
        ("a.txt", 6, "stages.first.file"),
        ("b.txt", 6, "stages.first.files"),
        ("said/before", 7, "stages.second.after"),
        ("plugins/quote.py", 3, "plugins.0"),
    ],
)
def test_a_path_that_leads_somewhere_from_the_working_directory_alone_is_told(
    project: Path, name: str, line: int, place: str
) -> None:
    there = Path.cwd() / name
    there.parent.mkdir(parents=True, exist_ok=True)
    (project / name).rename(there)
    told = (
        f"../project/quotes.yaml:{line}: {place}: there is no {project / name}; "
        f"it is there from the working directory: {there}"
    )
    with pytest.raises(RecipeError, match=f"^{re.escape(told)}"):
        load_recipe("../project/quotes.yaml", trust=run_all)


def test_a_path_that_leads_nowhere_is_told_with_its_start(project: Path) -> None:
    (project / "photos").rmdir()
    recipe = load_recipe("../project/quotes.yaml", trust=run_all)
    with pytest.raises(RecipeError) as caught:
        runner.RecipeRun(recipe, Path("out")).data_identity()
    assert str(caught.value) == (
        f"../project/quotes.yaml:4: data.root: there is no folder {project / 'photos'}; set data.root to the folder "
        f"that holds the class folders ('photos' starts at {project})"
    )


def test_a_model_is_no_folder_of_the_working_directory(project: Path) -> None:
    artifact(Path.cwd() / "mlp-8")
    (project / "train.yaml").write_text("name: t\nstages:\n  - {name: t, uses: train, with: {model: mlp-8}}\n")
    assert load_recipe("../project/train.yaml", trust=run_all).stages["t"].model_dump()["model"] == "mlp-8"


def test_a_recipe_that_comes_along_reads_data_of_the_working_directory(project: Path) -> None:
    assert load_recipe("born-again-birds").settings.data.root == Path.cwd() / "data" / "birds"
