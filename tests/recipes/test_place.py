"""Where a run may lie: what a user made is never replaced, by whatever it is in the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nasdistill.errors import UserError
from nasdistill.ledger import LEDGER
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.place import check_run
from nasdistill.recipes.runner import run
from nasdistill.recipes.sweep import Sweep
from nasdistill.report.page_file import check_page, write_page
from tests.recipes.toy import RECIPE


def sweep(folder: Path, *overrides: str) -> Sweep:
    path = folder / "toy.yaml"
    path.write_text(RECIPE)
    return Sweep.of(load_recipe(str(path), overrides))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder; whoever changes it takes a copy."""
    folder = tmp_path_factory.mktemp("finished")
    run(sweep(folder), folder / "out", "test")
    return folder / "out"


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "results.json", "run.json", "report.html", "run.lock", "run.holder.json", "stages/walk"]
)
def test_a_users_file_stays_and_nothing_is_put_beside_it(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("# mine\nname: toy\n")
    before = contents(out)
    for act in (lambda: check_run(sweep(tmp_path), out), lambda: run(sweep(tmp_path), out, "test")):
        with pytest.raises(UserError, match=f"holds {name}, not as nasdistill wrote it there"):
            act()
    assert contents(out) == before


def test_the_recipe_beside_its_run_stays(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(f"# a comment\n{RECIPE}")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"holds recipe\.yaml"):
        run(load_recipe(str(tmp_path / "recipe.yaml"), ["stages.walk.steps=2"]), tmp_path, "test")
    assert contents(tmp_path) == before


def test_a_run_goes_on_in_its_own_folder_and_beside_files_that_are_not_in_its_way(
    finished: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    (out / "sweep.md").write_text("notes of the user's, whom no sweep here concerns")
    run(sweep(tmp_path, "stages.walk.steps=2"), out, "test")
    assert (out / "sweep.md").exists()
    assert "steps: 2" in (out / "recipe.yaml").read_text()


@pytest.mark.parametrize("name", ["recipe.yaml", "results.json", "report.html"])
def test_a_file_of_the_run_that_the_user_edited_stays(finished: Path, tmp_path: Path, name: str) -> None:
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    with (out / name).open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=f"holds {name}, not as nasdistill wrote it there"):
        run(sweep(tmp_path, "stages.walk.steps=2"), out, "test")


def test_a_run_of_an_earlier_version_kept_no_ledger_and_goes_on(finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    (out / LEDGER).unlink()
    assert [row.cached for row in run(sweep(tmp_path), out, "test").rows] == [True, True]
    for name in (LEDGER, "run.json", "results.json"):  # it was killed
        (out / name).unlink()
    assert [row.cached for row in run(sweep(tmp_path, "stages.sum.scale=2"), out, "test").rows] == [True, False]
    (out / LEDGER).unlink()
    (out / "recipe.yaml").write_text(f"# edited\n{RECIPE}")
    with pytest.raises(UserError, match=r"holds recipe\.yaml"):
        run(sweep(tmp_path), out, "test")


def _in_an_artifact(finished: Path, _: Path) -> Path:
    return finished / "stages" / "walk" / "mine"


def _in_its_stages(finished: Path, _: Path) -> Path:
    return finished / "stages" / "mine"


def _at_a_link_to_nothing(_: Path, folder: Path) -> Path:
    (folder / "link").symlink_to("nowhere")
    return folder / "link"


def _at_bytes(_: Path, folder: Path) -> Path:
    return folder / os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (_in_an_artifact, "lies in a finished artifact"),
        (_in_its_stages, "lies among the stages of another run"),
        (_at_a_link_to_nothing, "is a link to nothing"),
        (_at_bytes, r"caf\\udce9' is no UTF-8 text"),
    ],
)
def test_a_run_lies_in_no_other_thing(
    finished: Path, tmp_path: Path, place: Callable[[Path, Path], Path], told: str
) -> None:
    before = contents(finished)
    out = place(finished, tmp_path)
    with pytest.raises(UserError, match=told):
        run(sweep(tmp_path), out, "test")
    assert contents(finished) == before
    assert not out.exists()


def test_a_run_lies_in_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    recipe = sweep(tmp_path)
    recipe.recipe.settings.data.__dict__["root"] = photos
    for out in (photos, photos / "run"):
        with pytest.raises(UserError, match="its files would count as data"):
            check_run(recipe, out)
    monkeypatch.chdir(photos)
    check_run(recipe, Path("runs/toy"))


def test_a_page_lies_in_no_artifact(finished: Path) -> None:
    with pytest.raises(UserError, match="lies in a finished artifact"):
        check_page(finished / "stages" / "walk" / "page.html")


def test_a_page_is_replaced_where_it_is_one_as_it_was_written(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_page(page, "<p>one</p>\n")
    write_page(page, "<p>two</p>\n")
    assert page.read_text().startswith("<p>two</p>\n<!-- SHA-256 of what stands above: ")
    page.write_text(page.read_text().replace("two", "a note"))
    (tmp_path / "link.html").symlink_to("nowhere")
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    for name in ("page.html", "link.html", "mine.html"):
        with pytest.raises(UserError, match="is no page as nasdistill wrote it, and stays"):
            write_page(tmp_path / name, "<p>three</p>")
    with pytest.raises(UserError, match="is a folder; name a file"):
        check_page(tmp_path)
