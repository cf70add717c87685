"""`nasdistill clean`: what goes is of no use to any recipe in the folder, and what stays is a whole run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from nasdistill.artifacts import open_artifact
from nasdistill.errors import UserError
from nasdistill.recipes import cleaning as module
from nasdistill.recipes.cleaning import cleaning
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.report.records import RunRecord
from nasdistill.report.results import load_run
from nasdistill.storage import write_sealed
from tests.recipes import toy
from tests.recipes.test_place import contents
from tests.recipes.toy import RECIPE


def ran(out: Path, *overrides: str) -> RunRecord:
    (out.parent / "toy.yaml").write_text(RECIPE)
    return run(load_recipe(str(out.parent / "toy.yaml"), overrides), out, "nasdistill run toy.yaml")


def cleaned(out: Path, dry_run: bool = False) -> list[str]:
    with cleaning(out, dry_run) as found:
        return sorted(each.path.relative_to(out).as_posix() for each in found.removable)


def test_what_other_values_left_goes_and_what_the_page_shows_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    superseded = {row.folder.name for row in ran(out, "stages.sum.scale=2").rows if row.folder is not None}
    record = ran(out)
    shown = {row.folder.name for row in record.rows if row.folder is not None}
    (out / "work" / "walk-0123456789ab").mkdir()
    (out / "work" / "walk-0123456789ab" / "1-2.safetensors").write_bytes(bytes(1000))
    (out / "work" / "0123456789ab.lock").touch()
    (out / f".results.json.{'0' * 32}.partial").write_bytes(bytes(10))
    (out / "notes.txt").write_text("of the user")
    (out / "artifacts" / "mine").mkdir()
    (out / "work" / "mine").mkdir()
    before = contents(out)

    listed = cleaned(out, dry_run=True)
    assert contents(out) == before
    assert listed == sorted(
        [
            *(f"artifacts/{name}" for name in superseded - shown),
            *("work/walk-0123456789ab", "work/0123456789ab.lock", f".results.json.{'0' * 32}.partial"),
        ]
    )
    with cleaning(out) as found:
        sizes = {each.path.name: each.bytes for each in found.removable}
    assert sizes["walk-0123456789ab"] == 1000
    (gone,) = superseded - shown
    assert sizes[gone] == sum(len(before[name] or b"") for name in before if name.startswith(f"artifacts/{gone}/"))
    gone_paths = tuple(listed)
    assert contents(out).keys() - {"run.holder.json"} == {
        name for name in before if not name.startswith(gone_paths) and name != "run.holder.json"
    }
    assert load_run(out) == record
    assert all(row.cached for row in ran(out).rows)
    assert cleaned(out) == []


def test_a_run_into_another_recipes_folder_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    words = f"{out} was the run of 'first': its page and results are replaced, all else stays until `nasdistill clean`"
    for name, told in (("first", []), ("first", []), ("second", [words])):
        caplog.clear()
        ran(out, f"name={name}")
        assert [line for line in caplog.messages if "nasdistill clean" in line] == told


def test_links_to_what_goes_go_along(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran(out, "seeds=[0, 1]", "seed=null")
    ran(out, "seed=3")
    cleaned(out)
    assert sorted(os.listdir(out / "stages")) == ["sum", "walk"]
    assert len(list((out / "artifacts").iterdir())) == 2


def test_what_takes_the_place_of_a_stage_stays_and_so_does_its_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran(out, "stages.walk.steps=2")
    first = ran(out).rows[0].folder
    assert first is not None
    ran(out, f"stages.walk.artifact={out / 'stages' / 'walk'}")
    assert len(cleaned(out)) == 2, "the walk of two steps and its sum"
    assert first.is_dir()
    assert [row.cached for row in run(load_recipe(str(out / "recipe.yaml")), out, "nasdistill run").rows] == [True]


def test_what_a_user_put_into_an_artifact_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = ran(out, "stages.walk.steps=2").rows[0].folder
    assert folder is not None
    (folder / "notes.txt").write_text("of the user")
    ran(out)
    with cleaning(out) as found:
        assert any(sentence.startswith(f"{folder} stays") for sentence in found.staying)
    assert (folder / "notes.txt").read_text() == "of the user"


def test_what_a_stopped_run_may_need_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    ran(out)
    with monkeypatch.context() as patch:
        patch.setattr(toy.Sum, "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ran(out, "stages.walk.steps=2")
    (out / "work" / "walk-0123456789ab").mkdir()
    with cleaning(out) as found:
        (sentence,) = found.staying
    assert sentence.endswith("it goes on with nasdistill run toy.yaml")
    assert (out / "work" / "walk-0123456789ab").is_dir()
    again = ran(out, "stages.walk.steps=2")
    assert [row.cached for row in again.rows] == [True, False]
    assert "work/walk-0123456789ab" in cleaned(out)


def test_outputs_go_with_their_teacher(tmp_path: Path) -> None:
    out = tmp_path / "out"
    content = open_artifact(ran(out).rows[0].folder or tmp_path).content
    for name, teacher in (("a" * 16, content), ("b" * 16, "of another teacher")):
        (out / "cache" / name).mkdir(parents=True)
        write_sealed(out / "cache" / name / "outputs.json", {"identity": {"teachers": [teacher]}})
    assert cleaned(out) == [f"cache/{'b' * 16}"]


def test_outputs_of_a_teacher_in_another_folder_stay(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    teacher = open_artifact(ran(elsewhere).rows[0].folder or tmp_path)
    ran(out, f"stages.walk.artifact={elsewhere / 'stages' / 'walk'}")
    (out / "cache" / "a").mkdir(parents=True)
    write_sealed(out / "cache" / "a" / "outputs.json", {"identity": {"teachers": [teacher.content]}})
    assert cleaned(out) == []


def test_a_kill_on_the_way_leaves_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    ran(out, "stages.walk.steps=2")
    ran(out)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            cleaned(out)
    assert all(row.cached for row in ran(out).rows)
    cleaned(out)
    assert len(list((out / "artifacts").iterdir())) == 2


def test_a_folder_in_use_or_of_something_else_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run: there is nothing of one in it"):
        cleaned(tmp_path)
    out = tmp_path / "out"
    ran(out, "stages.walk.steps=2")
    ran(out)
    before = contents(out / "artifacts")
    with FileLock(out / "run.lock"):
        for dry_run in (False, True):
            with pytest.raises(UserError, match="is in use"):
                cleaned(out, dry_run)
    assert contents(out / "artifacts") == before


def test_an_experiments_trials_share_what_they_need(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "trials").mkdir(parents=True)
    for name, steps in (("one", 2), ("two", 3)):
        trial = out / "trials" / name
        trial.mkdir()
        for shared in ("artifacts", "work", "cache"):
            (out / shared).mkdir(exist_ok=True)
            (trial / shared).symlink_to(Path("..", "..", shared))
        ran(trial, f"stages.walk.steps={steps}")
    ran(out / "trials" / "one", "stages.walk.steps=4")
    (out / "experiment.json").write_text("{}")
    with pytest.raises(UserError, match="is a trial, whose artifacts are those of its experiment"):
        cleaned(out / "trials" / "one")
    gone = cleaned(out)
    assert len([name for name in gone if name.startswith("artifacts/")]) == 2
    assert all(row.cached for row in ran(out / "trials" / "two", "stages.walk.steps=3").rows)
    assert all(row.cached for row in ran(out / "trials" / "one", "stages.walk.steps=4").rows)
