"""Where a run may lie: where its files replace nothing of a user's, and spoil no data and no other run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nasdistill.artifacts import refuse_inside
from nasdistill.data.base import DataSet
from nasdistill.errors import UserError
from nasdistill.ledger import LEDGER, Ledger, not_ours
from nasdistill.recipes.lock import HOLDER, LOCK, holder_in
from nasdistill.recipes.source import dump, parse
from nasdistill.recipes.sweep import Sweep
from nasdistill.report.page_file import REPORT, is_page
from nasdistill.report.results import RESULTS, RUN
from nasdistill.report.sweeps import CSV, MARKDOWN

RECIPE = "recipe.yaml"
UNFINISHED = "unfinished.json"
"""Stands in a run's folder from when there is work until all of it is done, with the `command`."""
FOLDERS = ("artifacts", "work", "cache", "stages", "tensorboard")
"""What a run has beside its files."""


def check_run(sweep: Sweep, out: Path) -> Ledger:
    """Find what keeps a run out of a folder; nothing is written.

    Returns:
        the folder's ledger; that of an earlier version's run, which kept none, has its files.

    Raises:
        UserError: the run would replace what nasdistill did not write, or lie inside data, an artifact or another run.
    """
    check_folder(out, sweep.recipe.settings.data, FOLDERS)
    ledger = Ledger(out)
    files = {RECIPE: sweep.recipe.text(), UNFINISHED: None, RESULTS: None, RUN: None}
    if sweep.grid:
        files |= {MARKDOWN: None, CSV: None}
    if not ledger.exists and _of_an_earlier_version(out):
        ledger.adopt(*files)
    others = ledger.others(files) + others_in(out, sweep.recipe.stages)
    if others:
        raise not_ours(out, others)
    return ledger


def check_folder(out: Path, data: DataSet, folders: Iterable[str]) -> None:
    """Find what keeps a run or an experiment out of a folder, whatever its files are.

    Raises:
        UserError: see `check_run`.
    """
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise UserError(f"--out: the name {str(out)!a} is no UTF-8 text; choose another folder") from None
    if out.is_symlink() and not out.exists():
        raise UserError(f"{out} is a link to nothing; choose another folder with --out")
    if not_folders := [name for name in folders if (out / name).exists() and not (out / name).is_dir()]:
        raise not_ours(out, not_folders)
    refuse_inside(out)
    real = out.resolve()
    for folder in (real, *real.parents):
        if folder.name in FOLDERS and (folder.parent / LEDGER).is_file():
            raise UserError(
                f"{out} lies among the {folder.name} of another run, {folder.parent}; choose another folder"
            )
    root = getattr(data, "root", None)
    if isinstance(root, Path) and root.is_dir():
        root = root.resolve()
        # What lies below the working directory is no run's intrusion, though the data may lie all over it.
        if real == root or (root in real.parents and not Path.cwd().is_relative_to(root)):
            raise UserError(f"{out} lies in the folder of the data, {root}, where its files would count as data")


def others_in(out: Path, stages: Iterable[str]) -> list[str]:
    """What a run finds in the place of its page, its lock and its links to these stages."""
    there = {name: out / name for name in (LOCK, HOLDER, REPORT) if os.path.lexists(out / name)}
    ours = {LOCK: lambda path: path.is_file() and path.stat().st_size == 0, HOLDER: holder_in, REPORT: is_page}
    found = [name for name, path in there.items() if not ours[name](path)]
    links = sorted((out / "stages").iterdir()) if (out / "stages").is_dir() else []
    named = tuple(stages)
    return found + [f"stages/{each.name}" for each in links if each.name.startswith(named) and not is_link(each)]


def is_link(path: Path) -> bool:
    """Whether this is a link of a run to an artifact."""
    return path.is_symlink() and path.readlink().parts[:2] == ("..", "artifacts")


def recipe_of(out: Path) -> str | None:
    """The name of the recipe that ran in a folder last, if one did."""
    try:
        name: str | None = parse((out / RECIPE).read_text()).data["name"]
        return name
    except (UserError, OSError, UnicodeDecodeError, TypeError, KeyError):
        return None


def _of_an_earlier_version(out: Path) -> bool:
    """Whether a run was here before there were ledgers: it noted who held its lock, and its recipe is as we write it.

    A recipe that somebody wrote or edited has comments, or other blanks and quotes.
    """
    try:
        text = (out / RECIPE).read_text()
        return holder_in(out / HOLDER) is not None and dump(parse(text).data) == text
    except (UserError, OSError, UnicodeDecodeError):
        return False
