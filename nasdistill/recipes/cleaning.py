"""What a run's folder, or an experiment's, keeps for nothing: found, weighed, and removed when asked to."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from nasdistill.artifacts import MANIFEST, Artifact, open_artifact
from nasdistill.errors import UserError
from nasdistill.ledger import LEDGER
from nasdistill.recipes.lock import LOCK, run_lock
from nasdistill.recipes.place import UNFINISHED, is_link
from nasdistill.report.experiments import EXPERIMENT
from nasdistill.report.results import RUN, load_run
from nasdistill.storage import leftovers, read_sealed

_OF_A_KEY = re.compile(r".+-([0-9a-f]{12})")
_OUTPUTS = re.compile("[0-9a-f]{16}")
CACHES = ("cache", "kept")
"""Teachers' outputs; earlier versions called the folder `kept`."""


@dataclass(frozen=True)
class Removable:
    """Something that can go.

    Attributes:
        path: a file, a folder, or a link.
        what: it is, in words.
        bytes: on the disk; of a link none.
    """

    path: Path
    what: str
    bytes: int

    @classmethod
    def of(cls, path: Path, what: str) -> Removable:
        if path.is_symlink():
            return cls(path, what, 0)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if not file.is_symlink()]
        return cls(path, what, sum(file.lstat().st_size for file in files if file.is_file()))


@dataclass(frozen=True)
class Cleaning:
    """What can go from a folder, and sentences about what stays though it may not be needed."""

    removable: tuple[Removable, ...]
    staying: tuple[str, ...]


@contextmanager
def cleaning(out: Path, dry_run: bool = False) -> Iterator[Cleaning]:
    """Hold a folder, with the trials below it, while somebody looks at what can go; afterwards that is removed.

    Needed is what the records of the folder's runs name: it stands on their pages. While a run here has not come to its
    end, all stays that it may need. A kill on the way leaves what it had not come to, for the next call.

    Args:
        dry_run: nothing is removed.

    Raises:
        UserError: `out` is no run, one of several that share their artifacts, or in use.
        DamagedFile: a record is not what was written, so that nobody knows what is needed.
    """
    if not any((out / name).is_file() for name in (RUN, EXPERIMENT, LEDGER, LOCK)):
        raise UserError(f"{out} is not a run: there is nothing of one in it")
    if (out / "artifacts").is_symlink():
        raise UserError(f"{out} is a trial, whose artifacts are those of its experiment; clean that")
    with ExitStack() as held:
        for folder in (out, *_trials(out)):
            if not dry_run and folder == out:
                held.enter_context(run_lock(folder))
            elif (folder / LOCK).is_file():
                held.enter_context(_not_in_use(folder))
        found = _found(out)
        yield found
        if not dry_run:
            for each in found.removable:
                _remove(each.path)


def _not_in_use(folder: Path) -> AcquireReturnProxy:
    try:
        return FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder} is in use; wait for it") from None


def _trials(out: Path) -> list[Path]:
    return sorted(path for path in (out / "trials").glob("*") if path.is_dir())


def _found(out: Path) -> Cleaning:
    runs = [folder for folder in (out, *_trials(out)) if (folder / RUN).is_file()]
    rows = [row for folder in runs for row in load_run(folder).rows]
    needed = {row.folder.resolve() for row in rows if row.folder is not None}
    read = {content for row in rows for content in row.inputs.values()}  # of an earlier run, by its folder
    ended = any((out / name).is_file() for name in (RUN, EXPERIMENT)) and not (out / UNFINISHED).is_file()
    staying = []
    if not ended:
        staying.append(f"the last run did not come to its end: what it may need stays; it goes on with {_command(out)}")
    removable: list[Removable] = []
    superseded: list[Path] = []
    if ended:
        for artifact in _artifacts(out):
            if artifact.folder.resolve() in needed or artifact.content in read:
                continue
            if artifact.untouched():
                superseded.append(artifact.folder)
                removable.append(Removable.of(artifact.folder, "artifact that no recipe here needs"))
            else:
                staying.append(f"{artifact.folder} stays: no recipe here needs it, but it is not as its stage wrote it")
        contents = read | {artifact.content for artifact in _artifacts(out) if artifact.folder not in superseded}
        removable += [
            Removable.of(folder, "outputs of teachers that no recipe here needs")
            for folder in _outputs(out)
            if not contents.issuperset(_teachers(folder))
        ]
    done = {artifact.folder.name[-12:] for artifact in _artifacts(out)}
    for path in sorted((out / "work").glob("*")):
        key = _OF_A_KEY.fullmatch(path.name)
        if key and path.is_dir() and (ended or key[1] in done):
            removable.append(Removable.of(path, "checkpoints of a stage that is done or not needed"))
    links = {link: link.resolve() for folder in runs for link in (folder / "stages").glob("*") if is_link(link)}
    gone = [link for link, place in links.items() if place in {path.resolve() for path in superseded}]
    stale = [lock for lock in _locks(out) if _is_free(lock)]
    halves = [path for folder in (out, *_below(out)) for path in leftovers(folder)]
    return Cleaning(
        (
            *(Removable.of(link, "link to an artifact that goes") for link in gone),
            *removable,
            *(Removable.of(lock, "lock of a process that is gone") for lock in stale),
            *(Removable.of(path, "left by a write that was killed") for path in halves),
        ),
        tuple(staying),
    )


def _artifacts(out: Path) -> list[Artifact]:
    """Those whose record is whole; whatever else lies there is not ours to judge."""
    found = []
    for path in sorted((out / "artifacts").glob(f"*/{MANIFEST}")):
        key = _OF_A_KEY.fullmatch(path.parent.name)
        try:
            artifact = open_artifact(path.parent, verify=False)
        except UserError:
            continue
        if key and artifact.manifest.key.startswith(key[1]):
            found.append(artifact)
    return found


def _outputs(out: Path) -> list[Path]:
    """The folders of teachers' outputs."""
    return sorted(
        path.parent
        for cache in CACHES
        for path in (out / cache).glob("*/outputs.json")
        if _OUTPUTS.fullmatch(path.parent.name)
    )


def _teachers(folder: Path) -> set[str]:
    """The contents of the networks whose outputs lie in a folder; one that cannot be read serves nobody."""
    try:
        return set(read_sealed(folder / "outputs.json")["identity"]["teachers"])
    except (UserError, KeyError, TypeError):
        return {"unknown"}


def _locks(out: Path) -> list[Path]:
    locks = [path for path in (out / "work").glob("*.lock") if re.fullmatch("[0-9a-f]{12}", path.stem)]
    return sorted([*locks, *(out / "trials").glob("*/trial.lock")])


def _is_free(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return path.exists()


def _below(out: Path) -> list[Path]:
    return [out / "artifacts", out / "stages", *_outputs(out), *_trials(out)]


def _command(folder: Path) -> str:
    try:
        return str(read_sealed(folder / UNFINISHED)["command"])
    except (OSError, UserError, KeyError):
        return "the same command"


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return
    retired = path.with_name(f".{path.name}.{uuid.uuid4().hex}.retired")
    os.replace(path, retired)  # so that half an artifact is never taken for one
    shutil.rmtree(retired)
