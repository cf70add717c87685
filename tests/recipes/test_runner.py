"""Running recipes: what is cached, what runs again, that no kill changes a result (reliability R1, R3, R6, R7, R8)."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nasdistill.artifacts import open_artifact
from nasdistill.errors import Interrupted, UserError
from nasdistill.interrupts import polite_stops
from nasdistill.recipes import provenance, recipe_run
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import plan, run
from nasdistill.report.records import RunRecord
from nasdistill.stages import Outcome
from nasdistill.storage import sha256_of
from tests.children import POINTS, InAChild, killed_at
from tests.recipes import toy
from tests.recipes.toy import RECIPE

ROOT = Path(__file__).parents[2]


def ran(out: Path, *overrides: str) -> RunRecord:
    recipe = out.parent / "toy.yaml"
    if not recipe.exists():
        recipe.write_text(RECIPE)
    return run(load_recipe(str(recipe), overrides), out, "nasdistill run toy.yaml")


def done_again(record: RunRecord) -> list[str]:
    """The stages that ran, rather than being found."""
    return [row.stage for row in record.rows if not row.cached]


def contents(out: Path) -> dict[str, str]:
    """Hash of every artifact's payload and metrics by folder name."""
    found = {}
    for folder in sorted((out / "artifacts").iterdir()):
        manifest = open_artifact(folder).manifest
        found[folder.name] = json.dumps([manifest.files, manifest.metrics, manifest.inputs], sort_keys=True)
    return found


def test_a_run_leaves_artifacts_with_their_provenance(tmp_path: Path) -> None:
    record = ran(tmp_path / "out")
    assert done_again(record) == ["walk", "sum"]
    folder = record.rows[0].folder
    assert folder is not None
    manifest = open_artifact(folder).manifest
    assert manifest.config == {"steps": 4}
    assert manifest.seed == 1
    assert manifest.cost["seconds"] > 0
    assert manifest.cost["peak_memory_bytes"] > 1_000_000
    assert manifest.cost["samples_per_second"] == 1.0
    assert manifest.provenance["versions"]["torch"]
    assert manifest.provenance["data"]["fingerprint"] == "bytes "
    assert manifest.provenance["plugins"]["stages/toy-walk"]["version"].startswith("sha256:")
    assert open_artifact(record.rows[1].folder).manifest.inputs == {"walk": open_artifact(folder).content}  # type: ignore[arg-type]
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["stage"] for row in rows] == ["walk", "sum"]
    assert (tmp_path / "out" / "report.html").is_file()
    assert not list((tmp_path / "out" / "work").iterdir())


def test_a_finished_stage_never_runs_again(tmp_path: Path) -> None:
    ran(tmp_path / "out")
    before = contents(tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        os.utime(path, (1, 1))
    assert done_again(ran(tmp_path / "out")) == []
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("stages.walk.steps=5", ["walk", "sum"]),
        ("stages.sum.scale=2", ["sum"]),
        ("seed=2", ["walk", "sum"]),
        ("data.salt=other", ["walk", "sum"]),
        ("data.validation=0.2", ["walk", "sum"]),
        ("engine.channels_last=false", ["walk", "sum"]),
        ("data.root=/elsewhere", []),
        ("data.download=true", []),
        ("name=other", []),
        ("checkpoint_seconds=5", []),
        ("stages.sum.name=total", []),
        ("stages.walk.name=stroll", None),
    ],
)
def test_exactly_what_a_change_affects_runs_again(override: str, again: list[str] | None, tmp_path: Path) -> None:
    """Reliability R8; None: the change alone makes no valid recipe."""
    ran(tmp_path / "out")
    if again is None:
        with pytest.raises(UserError):
            ran(tmp_path / "out", override)
        assert done_again(ran(tmp_path / "out", override, "stages.sum.walk=stroll")) == []
    else:
        assert done_again(ran(tmp_path / "out", override)) == again


def test_other_code_runs_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(tmp_path / "out")
    monkeypatch.setattr(provenance, "version", lambda _classes: "another")
    assert done_again(ran(tmp_path / "out")) == ["walk", "sum"]


def test_the_plan_says_what_is_cached_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(RECIPE)
    recipe = load_recipe(str(tmp_path / "toy.yaml"))
    assert [(stage.name, stage.cached) for stage in plan(recipe, tmp_path / "out")] == [("walk", False), ("sum", False)]
    assert not (tmp_path / "out").exists()
    ran(tmp_path / "out")
    planned = plan(load_recipe(str(tmp_path / "toy.yaml"), ["stages.sum.scale=3"]), tmp_path / "out")
    assert [(stage.name, stage.cached, stage.inputs) for stage in planned] == [
        ("walk", True, {}),
        ("sum", False, {"walk": "walk"}),
    ]


def test_the_page_is_drawn_again_only_when_it_would_differ(tmp_path: Path) -> None:
    page = tmp_path / "out" / "report.html"
    ran(tmp_path / "out")
    first = page.stat().st_mtime_ns
    ran(tmp_path / "out")
    assert page.stat().st_mtime_ns == first
    ran(tmp_path / "out", "name=other")
    second = page.stat().st_mtime_ns
    assert second > first
    page.unlink()
    ran(tmp_path / "out", "name=other")
    assert page.is_file()


def test_stages_can_be_reached_by_name_and_follow_the_last_run(tmp_path: Path) -> None:
    ran(tmp_path / "out")
    assert open_artifact(tmp_path / "out" / "stages" / "walk").manifest.config == {"steps": 4}
    ran(tmp_path / "out", "stages.walk.steps=5")
    assert open_artifact(tmp_path / "out" / "stages" / "walk").manifest.config == {"steps": 5}
    (tmp_path / "out").rename(tmp_path / "moved")
    assert open_artifact(tmp_path / "moved" / "stages" / "walk").manifest.config == {"steps": 5}


def test_seeds_repeat_the_recipe(tmp_path: Path) -> None:
    record = ran(tmp_path / "out", "seed=null", "seeds=[1, 2]")
    assert open_artifact(tmp_path / "out" / "stages" / "walk-seed-2").manifest.seed == 2
    assert [(row.stage, row.seed) for row in record.rows] == [("walk", 1), ("sum", 1), ("walk", 2), ("sum", 2)]
    assert len(contents(tmp_path / "out")) == 4


def test_a_damaged_artifact_is_named_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = ran(tmp_path / "out")
    before = contents(tmp_path / "out")
    assert record.rows[0].folder is not None
    payload = record.rows[0].folder / "position.safetensors"
    data = bytearray(payload.read_bytes())
    data[-1] ^= 1
    payload.write_bytes(data)
    assert done_again(ran(tmp_path / "out")) == ["walk"]
    assert "position.safetensors is damaged" in caplog.text
    assert contents(tmp_path / "out") == before


# -- kills ----------------------------------------------------------------------------------------------------------


def test_killed_at_every_named_point_a_plain_rerun_ends_the_same(in_a_child: InAChild, tmp_path: Path) -> None:
    """Before and after each write, flush, rename and removal, and so also between the stages."""
    (tmp_path / "toy.yaml").write_text(RECIPE)
    ran(tmp_path / "whole")
    unbroken = contents(tmp_path / "whole")
    point = kills = 0
    while True:
        point += 1
        out = tmp_path / f"killed-{point}"

        def attempt(out: Path = out, point: int = point) -> None:
            killed_at(point, POINTS)
            ran(out)

        status = in_a_child(attempt)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
        assert in_a_child(lambda out=out: ran(out)) == 0
        assert contents(out) == unbroken, f"killed at point {point}"
        assert not list(out.rglob("*.partial"))
    assert kills > 40


def test_ten_kills_in_one_run_never_lose_more_than_a_step(in_a_child: InAChild, tmp_path: Path) -> None:
    """Reliability R3: progress never goes back; at most one checkpoint interval is done again per kill."""
    (tmp_path / "toy.yaml").write_text(RECIPE.replace("steps: 4", "steps: 40"))
    ran(tmp_path / "whole")
    out = tmp_path / "out"
    reached = 0
    chance = random.Random(0)  # noqa: S311  (chooses where to kill, no secret)
    for _ in range(10):
        call = chance.randrange(8, 40)
        in_a_child(lambda call=call: (killed_at(call, ("replace", "fsync")), ran(out)))
        states = list(out.glob("work/walk-*/checkpoints/0*"))
        now = max((int(path.name.split("-")[0]) for path in states), default=40)
        assert now >= reached
        reached = now
    assert reached > 10
    ran(out)
    assert contents(out) == contents(tmp_path / "whole")


# -- signals and locks ----------------------------------------------------------------------------------------------


DRIVER = """
import sys
from pathlib import Path
import nasdistill.stages.base
import tests.recipes.toy
from nasdistill.errors import Interrupted, UserError
from nasdistill.interrupts import polite_stops
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
recipe = load_recipe(sys.argv[1])
print("ready", flush=True)
try:
    with polite_stops():
        run(recipe, Path(sys.argv[2]), "")
except Interrupted as stop:
    print(stop.where); sys.exit(128 + stop.signal_number)
except UserError as error:
    print(error); sys.exit(2)
"""


def started(recipe: Path, out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(recipe), str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def until(there: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_leaves_with_its_status(number: int, status: int, tmp_path: Path) -> None:
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE.replace("steps: 4", "steps: 100_0000".replace("_", "")))
    process = started(recipe, tmp_path / "out")
    until(lambda: list(tmp_path.glob("out/work/walk-*/checkpoints/0*")))
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert said.strip() == "stage 'walk', seed 1"
    assert list(tmp_path.glob("out/work/walk-*/checkpoints/0*"))


def test_two_starts_at_once_and_a_killed_holder(tmp_path: Path) -> None:
    """Reliability R6: one runs, the other leaves at once naming the holder; after a kill no unlock is needed."""
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE.replace("steps: 4", "steps: 1000000"))
    first = started(recipe, tmp_path / "out")
    until(lambda: (tmp_path / "out" / "run.holder.json").is_file())
    second = started(recipe, tmp_path / "out")
    begun = time.monotonic()
    assert second.stdout is not None
    said = second.stdout.read()  # not `communicate`, which misses what came together with the line read before
    second.wait(timeout=10)
    assert time.monotonic() - begun < 10, "the first one goes on for hours"
    assert second.returncode == 2
    assert f"in use by process {first.pid}" in said
    first.kill()
    first.wait()
    recipe.write_text(RECIPE)
    assert done_again(ran(tmp_path / "out")) == ["walk", "sum"]


def test_a_stop_between_stages_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.yaml").write_text(RECIPE)
    original = recipe_run.publish

    def publish_then_stop(*args: object, **options: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(recipe_run, "publish", publish_then_stop)
    with polite_stops(), pytest.raises(Interrupted):
        ran(tmp_path / "out")
    monkeypatch.undo()
    assert done_again(ran(tmp_path / "out")) == ["sum"]


def test_the_artifact_of_another_run_is_an_input_by_its_folder(tmp_path: Path) -> None:
    record = ran(tmp_path / "first")
    folder = record.rows[0].folder
    recipe = tmp_path / "other.yaml"
    recipe.write_text(
        f"name: other\ndata: toy-data\nstages:\n  - {{name: total, uses: toy-sum, with: {{walk: '{folder}'}}}}\n"
    )
    second = run(load_recipe(str(recipe)), tmp_path / "second", "")
    assert second.rows[0].folder is not None
    total = json.loads((second.rows[0].folder / "sum.json").read_text())
    assert total["of"] == open_artifact(folder).content  # type: ignore[arg-type]
    assert sha256_of(second.rows[0].folder / "sum.json")


def test_what_breaks_in_a_plugin_is_named_and_what_was_done_before_has_its_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nobody")

    monkeypatch.setattr(toy, "read_json", broken)
    place = r"the stage 'sum' \(toy-sum\) broke in a plug-in, at .*toy\.py, line \d+: ZeroDivisionError: by nobody"
    with pytest.raises(UserError, match=place):
        run(load_recipe(str(path)), tmp_path / "out", "test")
    assert (tmp_path / "out" / "stages" / "walk" / "artifact.json").is_file()
    assert not (tmp_path / "out" / "stages" / "sum").exists()


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (None, r"'sum' \(toy-sum, .*toy\.py, line \d+\) must return an Outcome, got NoneType"),
        (Outcome({"of": {1, 2}}), "must return metrics that are plain data: .*set"),
    ],
)
def test_a_stage_hands_back_an_outcome_of_plain_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: object, told: str
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    monkeypatch.setattr(toy.Sum, "run", lambda *_: outcome)
    with pytest.raises(UserError, match=told):
        run(load_recipe(str(path)), tmp_path / "out", "test")


def test_a_stage_whose_folder_was_removed_while_it_ran_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        whole = toy.Walk.run

        def losing(self: toy.Walk, inputs: object, context: object) -> Outcome:
            shutil.rmtree(out / "work")
            return whole(self, inputs, context)  # type: ignore[arg-type]

        patch.setattr(toy.Walk, "run", losing)
        with pytest.raises(UserError, match="payload was removed while the stage 'walk' ran"):
            run(load_recipe(str(path)), out, "test")
    assert not (out / "stages").exists()
    assert done_again(run(load_recipe(str(path)), out, "test")) == ["walk", "sum"]
